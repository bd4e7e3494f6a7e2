// Package console holds the web console, built by `npm run build` in this folder and embedded in the binary.
package console

import (
	"embed"
	"io/fs"
)

// dist is what Vite wrote. It holds a placeholder alone until `make build` (or `make console`) has run, so
// that the package always compiles.
//
//go:embed all:dist
var dist embed.FS

//go:embed missing
var missing embed.FS

// Built reports whether the console was built before this binary was compiled.
func Built() bool {
	_, err := fs.Stat(dist, "dist/index.html")
	return err == nil
}

// FS returns the console's files: index.html, and under assets/ files whose names carry a hash of their
// contents (assets/licenses.md alone does not), which may be cached for ever. When the console was not built,
// index.html is a page that says how to build it.
func FS() fs.FS {
	root, dir := dist, "dist"
	if !Built() {
		root, dir = missing, "missing"
	}
	sub, err := fs.Sub(root, dir)
	if err != nil {
		return root // unreachable: both directories are embedded under these very names
	}
	return sub
}
