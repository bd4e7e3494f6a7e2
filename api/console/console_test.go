package console

import (
	"io/fs"
	"regexp"
	"strings"
	"testing"
)

// The page must work under a Content-Security-Policy without 'unsafe-inline': every script and style of its
// own is a file.
func TestIndexIsStrict(t *testing.T) {
	page, err := fs.ReadFile(FS(), "index.html")
	if err != nil {
		t.Fatal(err)
	}
	html := string(page)
	if !strings.Contains(html, "<title>") {
		t.Errorf("index.html is no page: %.80s", html)
	}
	for _, bad := range []string{`<style`, ` style=`, ` onload=`, ` onclick=`, `javascript:`, `//cdn`, `http://`, `https://`} {
		if strings.Contains(html, bad) {
			t.Errorf("index.html holds %q", bad)
		}
	}
	for _, script := range regexp.MustCompile(`(?s)<script[^>]*>.*?</script>`).FindAllString(html, -1) {
		if !strings.Contains(script, "src=") || !strings.HasSuffix(script, "></script>") {
			t.Errorf("an inline script: %.80s", script)
		}
	}
}

func TestFilesArePresent(t *testing.T) {
	if !Built() {
		return // the page that says so is all there is
	}
	page, err := fs.ReadFile(FS(), "index.html")
	if err != nil {
		t.Fatal(err)
	}
	refs := regexp.MustCompile(`(?:src|href)="/([^"]+)"`).FindAllStringSubmatch(string(page), -1)
	if len(refs) < 3 {
		t.Errorf("index.html refers to %d files, expected a script, a style and an icon", len(refs))
	}
	for _, ref := range refs {
		if _, err := fs.Stat(FS(), ref[1]); err != nil {
			t.Errorf("index.html refers to %s: %v", ref[1], err)
		}
	}
}
