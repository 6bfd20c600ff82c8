// Prints {id: {kind, depends_on, browser_only}} of every test in the package that is named by the argument.
const root = process.argv[2]
const suites = (await import(`${root}/tests/index.mjs`)).default
const surrogate = (await import(`${root}/tests/surrogate-control.mjs`)).default
const found = {}
for (const [suite, own] of [...suites.map(one => [one, true]), [surrogate, false]]) {
  for (const test of suite.tests) {
    found[test.id] = {
      kind: test.kind ?? 'required',
      depends_on: test.depends_on ?? [],
      browser_only: test.browser_only === true,
      surrogate: !own
    }
  }
}
console.log(JSON.stringify(found))
