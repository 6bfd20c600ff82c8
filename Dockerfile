FROM docker.io/library/python:3.13-slim AS build
WORKDIR /src
RUN python3 -m venv /venv
COPY requirements-serve.lock ./
RUN /venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements-serve.lock
COPY pyproject.toml README.md LICENSE ./
COPY proxy proxy
COPY upstream_stub upstream_stub
# What only builds is taken out again: the final image gets the environment without it.
RUN /venv/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation . \
    && /venv/bin/pip uninstall --quiet --yes setuptools pip

FROM docker.io/library/python:3.13-slim
LABEL org.opencontainers.image.title="user-cache-proxy" \
      org.opencontainers.image.description="A sidecar cache that stands in front of a users API and answers for it." \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /venv /venv
# The root file system may be read-only: bytecode was written when the environment was made.
ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /
# A number, so that Kubernetes can prove runAsNonRoot.
USER 65532:65532
EXPOSE 8080 9090
# http://127.0.0.1:9090/healthz, or the port that ADMIN_LISTEN names. Not urllib: it would ask HTTP_PROXY.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["python", "-c", "import os, http.client as h; c = h.HTTPConnection('127.0.0.1', int(os.environ.get('ADMIN_LISTEN', ':9090').rpartition(':')[2]), timeout=2); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["user-cache-proxy"]
CMD ["serve"]
