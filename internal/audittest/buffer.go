package audittest

import (
	"bytes"
	"strings"
	"sync"
)

// Buffer collects what goroutines write, such as a log, while others read it.
type Buffer struct {
	mu   sync.Mutex
	text bytes.Buffer // not embedded: its ReadFrom would go around the lock
}

func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// Has says whether the text was written.
func (b *Buffer) Has(text string) bool { return strings.Contains(b.String(), text) }
