//go:build !noengines

package main

// withEngines says whether this binary can run the embedded engines, and so argusd dev. Images and releases are
// built without (-tags noengines): they are static, and hold no code that takes a local issuer.
const withEngines = true
