package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/clipperhouse/displaywidth"
)

// watch shows lines again and again, in place, until q or Ctrl-C. A failure leaves the last good screen and says
// so below it. At every end the terminal is given back as it was.
func (f *factory) watch(ctx context.Context, every time.Duration, ask func(context.Context) ([]string, error)) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	fd := int(f.io.in.Fd())
	before, err := term.MakeRaw(fd)
	if err != nil {
		return err
	}
	defer term.Restore(fd, before)
	const enter, leave = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
	if _, err := f.io.out.WriteString(enter); err != nil {
		return err
	}
	defer func() {
		_, _ = f.io.out.WriteString(leave)
		_ = f.io.out.Flush()
	}()
	refresh := make(chan struct{}, 1)
	go f.readKeys(stop, refresh)
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	defer signal.Stop(resized)
	var good []string
	trouble := ""
	for {
		lines, err := ask(ctx)
		if ctx.Err() != nil {
			return unread(ctx)
		}
		if err == nil {
			good, trouble = lines, ""
		} else if trouble = sentence(err.Error()); good == nil || exitCode(err) == exitUnauthenticated || exitCode(err) == exitForbidden {
			return err
		}
		next := time.After(every)
	wait:
		for {
			if err := f.draw(good, trouble, every); err != nil {
				return err
			}
			select {
			case <-ctx.Done():
				return unread(ctx)
			case <-resized:
			case <-refresh:
				break wait
			case <-next:
				break wait
			}
		}
	}
}

// readKeys stops the watch on q, Ctrl-C and the end of input, and refreshes on blank and r. It ends with the
// process: a read from a terminal cannot be called off.
func (f *factory) readKeys(stop func(), refresh chan<- struct{}) {
	key := make([]byte, 1)
	for {
		n, err := f.io.in.Read(key)
		if err != nil || n == 0 {
			stop()
			return
		}
		switch key[0] {
		case 'q', 'Q', 3, 4:
			stop()
			return
		case ' ', 'r':
			select {
			case refresh <- struct{}{}:
			default:
			}
		}
	}
}

// draw fills the screen from its top; what does not fit below is left out.
func (f *factory) draw(lines []string, trouble string, every time.Duration) error {
	width, height := f.io.size()
	var b strings.Builder
	b.WriteString("\x1b[H")
	room := max(height-2, 1)
	for i, line := range lines {
		if i == room-1 && len(lines) > room {
			line = fmt.Sprintf("… %d more", len(lines)-i)
		}
		if i >= room {
			break
		}
		b.WriteString(cutStyled(line, width) + "\x1b[K\r\n")
	}
	foot := fmt.Sprintf("every %s, q quits", formatDuration(every))
	if trouble != "" {
		foot = f.io.outStyle(red, harmless(trouble)) + "  " + foot
	} else {
		foot = f.io.outStyle(dim, foot)
	}
	b.WriteString(cutStyled(foot, width) + "\x1b[K\x1b[J")
	if _, err := f.io.out.WriteString(b.String()); err != nil {
		return err
	}
	return f.io.out.Flush()
}

// cutStyled cuts a line with colours in it to a width.
func cutStyled(line string, width int) string {
	return displaywidth.Options{ControlSequences: true}.TruncateString(line, width, "…")
}
