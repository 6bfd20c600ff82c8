/* Load at a fixed rate, which wrk has not: arrivals are as random as those of many clients (Poisson) and never
 * wait for answers, and a latency counts from the moment at which its request was due.
 *
 * rate PORT HEADS ORDER RATE SECONDS CONNECTIONS: HEADS are whole requests with a NUL between two, ORDER are
 * numbers of heads from 1, asked for in turn. Prints one line of JSON; times are milliseconds. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MOST 65536

struct connection {
  int socket;
  int started;     /* the first bytes of an answer are here */
  size_t left;     /* bytes of it that are to come */
  double due;
};

static double now(void) {
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static char *whole(const char *name, size_t *size) {
  FILE *file = fopen(name, "rb");
  if (!file || fseek(file, 0, SEEK_END)) fail(name);
  long length = ftell(file);
  char *text = malloc((size_t)length + 1);
  rewind(file);
  if (!text || fread(text, 1, (size_t)length, file) != (size_t)length) fail(name);
  fclose(file);
  text[length] = 0;
  *size = (size_t)length;
  return text;
}

/* Arrivals with exponential gaps, the same ones in each run. */
static double gap(uint64_t *state, double rate) {
  *state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
  return -log(((double)(*state >> 11) + 1.0) / 9007199254740993.0) / rate;
}

static int ascending(const void *one, const void *other) {
  float a = *(const float *)one, b = *(const float *)other;
  return (a > b) - (a < b);
}

int main(int count, char **words) {
  if (count != 7) {
    fprintf(stderr, "usage: rate PORT HEADS ORDER RATE SECONDS CONNECTIONS\n");
    return 2;
  }
  double rate = atof(words[4]), seconds = atof(words[5]);
  int connections = atoi(words[6]);
  size_t size, length, heads = 0, orders = 0, at = 0;
  char *text = whole(words[2], &size), *numbers = whole(words[3], &length);
  char **head = malloc((size + 1) * sizeof *head);
  size_t *order = malloc((length + 1) * sizeof *order);
  for (char *one = text; one < text + size; one += strlen(one) + 1) head[heads++] = one;
  for (char *one = numbers, *end; (order[orders] = strtoul(one, &end, 10), end != one); one = end) orders++;
  size_t total = (size_t)(rate * seconds), sent = 0, done = 0, failed = 0;
  float *taken = malloc((total + 1) * sizeof *taken);
  struct connection *all = calloc((size_t)connections, sizeof *all);
  struct connection **spare = malloc((size_t)connections * sizeof *spare);
  int spares = 0, poll = epoll_create1(0);
  struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(words[1]))};
  place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  for (int i = 0; i < connections; i++) {
    int one = 1, sock = socket(AF_INET, SOCK_STREAM, 0);
    if (sock < 0 || connect(sock, (struct sockaddr *)&place, sizeof place)) fail("connect");
    setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(sock, F_SETFL, O_NONBLOCK);
    all[i].socket = sock;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &all[i]};
    if (epoll_ctl(poll, EPOLL_CTL_ADD, sock, &event)) fail("epoll_ctl");
    spare[spares++] = &all[i];
  }
  static char data[MOST];
  struct epoll_event events[256];
  uint64_t state = 3;
  double began = now(), due = began, last = began;
  while (done < total) {
    double moment = now();
    while (sent < total && spares && due <= moment) {
      struct connection *one = spare[--spares];
      char *request = head[(order[at++ % orders] - 1) % heads];
      size_t bytes = strlen(request);
      if (send(one->socket, request, bytes, MSG_NOSIGNAL) != (ssize_t)bytes) fail("send");
      one->due = due;
      one->started = 0;
      sent++;
      due += gap(&state, rate);
    }
    int ready = epoll_wait(poll, events, 256, 0);
    for (int i = 0; i < ready; i++) {
      struct connection *one = events[i].data.ptr;
      ssize_t got = recv(one->socket, data, MOST - 1, 0);
      if (got <= 0) {
        if (got < 0 && errno == EAGAIN) continue;
        fail("the server closed a connection");
      }
      if (!one->started) {
        data[got] = 0;
        char *end = strstr(data, "\r\n\r\n"), *said = strcasestr(data, "\r\ncontent-length:");
        if (!end || !said || said > end) {
          fprintf(stderr, "an answer without a length\n");
          return 1;
        }
        one->started = 1;
        one->left = (size_t)(end + 4 - data) + strtoul(said + 17, NULL, 10);
        failed += strncmp(data + 9, "200", 3) != 0;
      }
      one->left -= (size_t)got;
      if (!one->left) {
        last = now();
        taken[done++] = (float)((last - one->due) * 1000);
        spare[spares++] = one;
      }
    }
  }
  qsort(taken, done, sizeof *taken, ascending);
  printf("{\"count\": %zu, \"rate\": %.1f, \"failed\": %zu, \"p50\": %.4f, \"p99\": %.4f, \"p999\": %.4f}\n", done,
         (double)done / (last - began), failed, taken[done / 2], taken[done * 99 / 100], taken[done * 999 / 1000]);
  return 0;
}
