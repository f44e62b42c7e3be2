package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/evento-oss/evento/internal/dev"
	"github.com/evento-oss/evento/internal/tour"
)

func demoCommand(g *globals) *cobra.Command {
	var (
		plain bool
		dir   string
	)
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Take a tour: the bank that evento dev runs, scene by scene",
		Long: `Shows what Evento does with the example bank that "evento dev" runs: commands,
refusals, repeats, state, transfers and their causes, a function that is killed in
the middle of a call, a command that is held. Everything is really sent, with the
lines that you could type yourself; each tour has accounts of its own.

It needs a gateway with the bank. The scenes in which functions fail need evento
dev on this machine, and are left out otherwise.`,
		Example: `  evento demo
  evento demo --plain > tour.txt   # no colours, no pauses`,
		Args: exactly("no further words", 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			var schemas any // whether the gateway answers at all
			if _, err := c.get(cmd.Context(), "/v1/schemas", nil, &schemas); err != nil {
				return err
			}
			t := &tour.Tour{Out: cmd.OutOrStdout(), Run: func(ctx context.Context, args ...string) (int, string) {
				var out bytes.Buffer
				code := run(ctx, append([]string{"--gateway", g.gateway, "--token", g.token}, args...), strings.NewReader(""), &out, &out)
				return code, out.String()
			}}
			if !plain && isTerminal(cmd.OutOrStdout()) {
				t.Colour = true
				if in, ok := cmd.InOrStdin().(*os.File); ok && isTerminal(in) {
					t.Pause = enterKey(bufio.NewReader(in), cmd.OutOrStdout())
				}
			}
			if s, err := dev.ReadState(dir); err == nil && s.Gateway == strings.TrimSuffix(g.gateway, "/") {
				t.Drill = filepath.Join(dir, dev.DrillFile)
				t.Handler = func() (int, error) { return handlerOf(dir, "checking-") }
			} else if err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
			return t.Walk(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&plain, "plain", false, "no colours and no pauses")
	cmd.Flags().StringVar(&dir, "dir", ".evento", "data directory of the evento dev that runs")
	return cmd
}

// handlerOf returns the process of the function whose name begins so and that handles commands.
func handlerOf(dir, prefix string) (pid int, err error) {
	s, err := dev.ReadState(dir)
	if err != nil {
		return 0, err
	}
	for _, f := range s.Functions {
		if strings.HasPrefix(f.Name, prefix) && !strings.HasSuffix(f.Name, "aggregator") {
			return f.PID, nil
		}
	}
	return 0, fmt.Errorf("evento dev runs no function %s...: the tour needs the example bank", prefix)
}

// isTerminal says whether somebody sits before it.
func isTerminal(w any) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// enterKey waits for the Enter key between scenes.
func enterKey(in *bufio.Reader, out io.Writer) func(context.Context) error {
	return func(ctx context.Context) error {
		fmt.Fprint(out, "\n  (Enter goes on) ")
		pressed := make(chan error, 1)
		go func() {
			_, err := in.ReadString('\n')
			pressed <- err
		}()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-pressed:
			if errors.Is(err, io.EOF) {
				return errors.New("the input has ended; --plain makes no pauses")
			}
			return err
		}
	}
}
