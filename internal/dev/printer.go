package dev

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
)

// printer writes whole lines for people, from any goroutine.
type printer struct {
	mu sync.Mutex // guards w
	w  io.Writer
}

func newPrinter(w io.Writer) *printer { return &printer{w: w} }

func (p *printer) line(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.w, format+"\n", args...)
}

func (p *printer) block(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	io.WriteString(p.w, text)
}

// terminalHandler shows warnings and errors as one line each; the rest is in the log file.
type terminalHandler struct {
	say   *printer
	name  string
	attrs string // already formatted, each with a space before it
	group string // prefix of keys, with its dot
}

func (h *terminalHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn
}

func (h *terminalHandler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(h.attrs)
	r.Attrs(func(a slog.Attr) bool {
		b.WriteString(h.format(a))
		return true
	})
	h.say.line("%s: %s: %s%s", h.name, strings.ToLower(r.Level.String()), r.Message, b.String())
	return nil
}

func (h *terminalHandler) format(a slog.Attr) string {
	return fmt.Sprintf(" %s%s=%v", h.group, a.Key, a.Value.Resolve())
}

func (h *terminalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	more := *h
	for _, a := range attrs {
		more.attrs += h.format(a)
	}
	return &more
}

func (h *terminalHandler) WithGroup(name string) slog.Handler {
	more := *h
	more.group += name + "."
	return &more
}

// maxLogSize is when a log is put aside at the next start: one old one is kept.
const maxLogSize = 16 << 20

// openLog opens a log to be appended to.
func openLog(name string) (*os.File, error) {
	if info, err := os.Stat(name); err == nil && info.Size() > maxLogSize {
		if err := os.Rename(name, name+".old"); err != nil {
			return nil, fmt.Errorf("log file: %w", err)
		}
	}
	file, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("log file: %w", err)
	}
	return file, nil
}
