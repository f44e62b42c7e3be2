// Package tour shows Evento to somebody who has `evento dev` running: scenes of
// a few commands each, which are really sent, with their real answers.
//
// Each scene says what it is about, runs the very lines that one could type, and
// fails if the answer is not what the scene tells: so it is a test, too.
package tour

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// Tour is one walk through all scenes.
type Tour struct {
	// Run runs the program with the words of a command line. Code is its exit code.
	Run func(ctx context.Context, args ...string) (code int, output string)
	Out io.Writer
	// Colour says whether Out shows ANSI colours.
	Colour bool
	// Pause is called between scenes; nil does not pause.
	Pause func(context.Context) error

	// Drill is the file with which the functions are made to fail; "" when they
	// are not on this machine, and the scenes that need it are left out.
	Drill string
	// Handler tells the process id of the function that handles checking accounts.
	Handler func() (pid int, err error)

	run string // part of all ids, so that each tour has accounts of its own
}

// patience is how long a scene waits for what must come.
const patience = 60 * time.Second

// Walk shows all scenes. The error names the scene that did not go as told.
func (t *Tour) Walk(ctx context.Context) error {
	t.run = strings.ToLower(rand.Text()[:5])
	// A drill that a former tour has left behind would surprise.
	if err := t.drill(""); err != nil {
		return err
	}
	all := scenes()
	for i, s := range all {
		if s.drill && t.Drill == "" {
			t.say("Left out, because the functions do not run under `evento dev` here: " + s.title + ".")
			continue
		}
		t.line(t.paint(bold, fmt.Sprintf("%d/%d  %s", i+1, len(all), s.title)))
		t.line("")
		err := s.play(ctx, t)
		if s.drill {
			err = errors.Join(err, t.drill(""))
		}
		if err != nil {
			return fmt.Errorf("scene %d, %s: %w", i+1, s.title, err)
		}
		if t.Pause != nil && i+1 < len(all) {
			if err := t.Pause(ctx); err != nil {
				return err
			}
		}
	}
	t.say("That was the tour. The words of it are in docs/concepts.md, the bank that it used in examples/bank, and `evento --help` has the rest.")
	return nil
}

// scene is one thing to see.
type scene struct {
	title string
	drill bool // needs functions that can be made to fail
	play  func(context.Context, *Tour) error
}

// id makes an entity of this tour: id("checking") is checking:tour-k3j5x.
func (t *Tour) id(prefix string) string { return prefix + ":tour-" + t.run }

// ANSI sequences.
const (
	bold = "\x1b[1m"
	dim  = "\x1b[2m"
	blue = "\x1b[34m"
	none = "\x1b[0m"
)

func (t *Tour) paint(colour, text string) string {
	if !t.Colour {
		return text
	}
	return colour + text + none
}

func (t *Tour) line(text string) { fmt.Fprintln(t.Out, text) }

// say tells something, in lines of a width that is read well.
func (t *Tour) say(text string) {
	const width = 78
	var line []string
	length := 0
	for _, word := range strings.Fields(text) {
		if length+len(word)+1 > width {
			t.line(strings.Join(line, " "))
			line, length = nil, 0
		}
		line, length = append(line, word), length+len(word)+1
	}
	t.line(strings.Join(line, " "))
	t.line("")
}

// evento shows a command line, runs it, and shows what it says, which must have
// the words, in this order. It returns the output.
func (t *Tour) evento(ctx context.Context, args []string, words ...string) (string, error) {
	t.line(t.paint(blue, "  $ evento "+shellWords(args)))
	code, output := t.Run(ctx, args...)
	t.quote(output)
	if code != 0 && code != exitPending {
		return output, fmt.Errorf("evento %s: exit code %d", shellWords(args), code)
	}
	return output, inOrder(output, words)
}

// quote shows what a command said.
func (t *Tour) quote(output string) {
	for line := range strings.Lines(output) {
		t.line("    " + t.paint(dim, strings.TrimRight(line, "\n")))
	}
	t.line("")
}

// exitPending is the exit code of a command that was accepted and has no outcome yet.
const exitPending = 5

// until runs a command line, and shows nothing, until what it says has the words.
func (t *Tour) until(ctx context.Context, args []string, words ...string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		_, output := t.Run(ctx, args...)
		err := inOrder(output, words)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("evento %s, for %s: %w", shellWords(args), patience, err)
		case <-tick.C:
		}
	}
}

func inOrder(text string, words []string) error {
	rest := text
	for _, w := range words {
		_, after, ok := strings.Cut(rest, w)
		if !ok {
			return fmt.Errorf("%q does not come where it should in:\n%s", w, text)
		}
		rest = after
	}
	return nil
}

// shellWords are the words as one types them.
func shellWords(args []string) string {
	quoted := slices.Clone(args)
	for i, a := range quoted {
		if strings.ContainsAny(a, " \"'{}$*") {
			quoted[i] = "'" + a + "'"
		}
	}
	return strings.Join(quoted, " ")
}

// drill says which commands the functions fail from now on; "" none.
func (t *Tour) drill(text string) error {
	if t.Drill == "" {
		return nil
	}
	if text == "" {
		if err := os.Remove(t.Drill); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return nil
	}
	return os.WriteFile(t.Drill, []byte(text+"\n"), 0o600)
}

// lastEvent returns the id of an entity's newest event of a type.
func (t *Tour) lastEvent(ctx context.Context, entity, eventType string) (string, error) {
	_, output := t.Run(ctx, "events", entity, "-o", "json")
	id := ""
	for line := range strings.Lines(output) {
		var e struct{ ID, Type string }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			return "", fmt.Errorf("events of %s: %w: %s", entity, err, line)
		}
		if strings.HasSuffix(e.Type, "."+eventType) {
			id = e.ID
		}
	}
	if id == "" {
		return "", fmt.Errorf("%s has no event %s", entity, eventType)
	}
	return id, nil
}
