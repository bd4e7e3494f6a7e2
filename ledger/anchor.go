package ledger

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/useargus/argus/proof"
)

// anchor is the sealer's memory outside Postgres: a file with a line for each checkpoint that may have been seen. The line is
// written and fsynced before the checkpoint is. The file only grows, until old lines thin out (compact). One process has it open at a time.
//
//	<size> <root in base64> <seconds since 1970>
type anchor struct {
	path string
	file *os.File
	last proof.Checkpoint // Size 0: none
	read int64            // bytes of the file that have been read
}

// anchorLimit is the size in bytes at which the file is thinned out.
const anchorLimit = 16 << 20

// openAnchor opens the file, making it when there is none. A last line that a crash cut off was never acknowledged, and
// goes; any other damage is an error.
func openAnchor(path string) (*anchor, error) {
	a := &anchor{path: path}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	whole := data[:strings.LastIndexByte(string(data), '\n')+1]
	if a.file, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, err
	}
	if err = syscall.Flock(int(a.file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		a.file.Close()
		return nil, fmt.Errorf("the anchor file %s is another process's: each sealer has its own", path)
	}
	if len(whole) < len(data) {
		err = a.file.Truncate(int64(len(whole)))
	}
	if err == nil {
		err = a.file.Sync()
	}
	if err == nil {
		err = syncFolder(path)
	}
	if err == nil {
		_, err = a.refresh()
	}
	if err == nil && a.read > anchorLimit {
		err = a.compact()
	}
	if err != nil {
		a.file.Close()
		return nil, fmt.Errorf("the anchor file %s: %w", path, err)
	}
	return a, nil
}

// syncFile is replaced by a test.
var syncFile = (*os.File).Sync

func syncFolder(path string) error {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func (a *anchor) close() { a.file.Close() }

// refresh reads what was appended since, and gives the new lines.
func (a *anchor) refresh() (lines []proof.Checkpoint, err error) {
	info, err := a.file.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() < a.read {
		return nil, fmt.Errorf("it has shrunk from %d to %d bytes", a.read, info.Size())
	}
	if info.Size() == a.read {
		return nil, nil
	}
	in := bufio.NewReader(io.NewSectionReader(a.file, a.read, info.Size()-a.read))
	for {
		line, err := in.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return lines, nil
		}
		if err != nil {
			return nil, err
		}
		c, err := parseAnchor(line)
		if err != nil {
			return nil, err
		}
		a.read += int64(len(line))
		if lines = append(lines, c); c.Size >= a.last.Size {
			a.last = c
		}
	}
}

func parseAnchor(line string) (c proof.Checkpoint, err error) {
	fields := strings.Fields(line)
	if len(fields) != 3 {
		return c, fmt.Errorf("its line %.80q is no checkpoint", line)
	}
	size, err1 := strconv.ParseInt(fields[0], 10, 64)
	root, err2 := base64.StdEncoding.Strict().DecodeString(fields[1])
	if err1 != nil || err2 != nil || size <= 0 || len(root) != proof.HashSize {
		return c, fmt.Errorf("its line %.80q is no checkpoint", line)
	}
	return proof.Checkpoint{Size: size, Root: proof.Hash(root)}, nil
}

// add appends a checkpoint. When it returns nil, the line is on disk.
func (a *anchor) add(size int64, root proof.Hash) error {
	if size == a.last.Size && root == a.last.Root {
		return nil
	}
	line := fmt.Sprintf("%d %s %d\n", size, base64.StdEncoding.EncodeToString(root[:]), time.Now().Unix())
	if _, err := a.file.Seek(0, io.SeekEnd); err != nil {
		return fmt.Errorf("the anchor file %s: %w", a.path, err)
	}
	_, err := a.file.WriteString(line)
	if err == nil {
		err = syncFile(a.file)
	}
	if err != nil { // a part of a line would spoil the next one, and a line that is not on disk must not count
		return fmt.Errorf("the anchor file %s: %w", a.path, errors.Join(err, a.file.Truncate(a.read)))
	}
	if _, err := a.refresh(); err != nil {
		return fmt.Errorf("the anchor file %s: %w", a.path, err)
	}
	if a.read > anchorLimit {
		return a.compact()
	}
	return nil
}

// sample gives at most n lines, evenly spread, the newest among them.
func (a *anchor) sample(n int) ([]proof.Checkpoint, error) {
	all, err := a.all()
	if err != nil || len(all) <= n {
		return all, err
	}
	var some []proof.Checkpoint
	for i := 1; i <= n; i++ {
		some = append(some, all[i*len(all)/n-1])
	}
	return some, nil
}

func (a *anchor) all() ([]proof.Checkpoint, error) {
	again := &anchor{path: a.path, file: a.file}
	return again.refresh()
}

// compact rewrites the file: all lines of the last hour stay, then one a minute for thirty days, then one an hour. The new
// file takes the old one's place when it is on disk.
func (a *anchor) compact() error {
	data, err := os.ReadFile(a.path)
	if err != nil {
		return err
	}
	now := time.Now().Unix()
	var b strings.Builder
	var held string
	place := int64(-1)
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		at, _ := strconv.ParseInt(fields[len(fields)-1], 10, 64)
		of := at / 60
		switch age := now - at; {
		case age < 3600:
			of = -2 // each is its own
		case age > 30*24*3600:
			of = at / 3600
		}
		if of != place || of == -2 {
			b.WriteString(held)
		}
		held, place = line, of
	}
	b.WriteString(held)
	next := a.path + ".new"
	f, err := os.OpenFile(next, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
		_, err = f.WriteString(b.String())
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(next, a.path)
	}
	if err == nil {
		err = syncFolder(a.path)
	}
	if err != nil {
		f.Close()
		return err
	}
	a.file.Close()
	a.file, a.read = f, 0
	_, err = a.refresh()
	return err
}
