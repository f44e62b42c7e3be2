// Command evento is all of Evento in one program: the gateway, everything on
// one machine for development, and the tools of the command line. Each
// subcommand is a file of its own; `evento --help` lists them.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, hard, stop := signals()
	code := run(withHardStop(ctx, hard), os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run executes a command line and returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := rootCommand()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	code := exitCode(err)
	if !isShown(err) {
		fmt.Fprintf(stderr, "evento: %v\n", err)
	}
	if code == exitUsage && !isCoded(err) {
		fmt.Fprintf(stderr, "see: %s --help\n", cmd.CommandPath())
	}
	return code
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "evento",
		Short: "Event sourcing on Kafka for functions",
		Long: `evento is event sourcing as a platform: commands go in, functions decide,
events come out, exactly once and in order.

Begin with:

  evento dev                                   # everything on this machine
  evento send checking:54321-90 OpenCheckingAccount client=client:42
  evento get checking:54321-90
  evento events checking:54321-90

Exit codes: 0 done; 1 failed; 2 wrong usage; 3 not found; 4 refused by the
gateway; 5 accepted, but no outcome within the time given; 6 the gateway or what
it needs is away, try again.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		// Without a Run, cobra takes an unknown word for help; an error is more honest.
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return usagef("there is no command %q", args[0])
		},
		Args: cobra.ArbitraryArgs,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	root.SetCompletionCommandGroupID("build")

	var g globals
	flags := root.PersistentFlags()
	flags.StringVar(&g.gateway, "gateway", envOr("EVENTO_GATEWAY", defaultGateway), "URL of the gateway (or EVENTO_GATEWAY)")
	flags.StringVar(&g.token, "token", "", "bearer token; better EVENTO_TOKEN, which other users of the machine do not see")
	flags.StringVarP(&g.output, "output", "o", outputText, "text or json")

	root.AddGroup(
		&cobra.Group{ID: "run", Title: "Run:"},
		&cobra.Group{ID: "use", Title: "Use:"},
		&cobra.Group{ID: "build", Title: "Build and measure:"},
	)
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("run", devCommand(), demoCommand(&g), gatewayCommand())
	add("use", sendCommand(&g), getCommand(&g), eventsCommand(&g), causeCommand(&g), parkedCommand(&g), triggersCommand(&g), replayCommand(&g), schemaCommand(&g), verifyCommand(&g))
	add("build", generateCommand(), benchCommand(&g))
	completeFlag(root, "output", outputText, outputJSON)
	return root
}

const defaultGateway = "http://127.0.0.1:8090"

func envOr(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

// globals are the flags that every command that talks to a gateway shares.
type globals struct {
	gateway string
	token   string
	output  string
}

const (
	outputText = "text"
	outputJSON = "json"
)

// client checks the flags and returns a client for the gateway.
func (g *globals) client() (*client, error) {
	if g.output != outputText && g.output != outputJSON {
		return nil, usagef("-o %q is neither %q nor %q", g.output, outputText, outputJSON)
	}
	token := g.token
	if token == "" {
		token = os.Getenv("EVENTO_TOKEN")
	}
	return newClient(g.gateway, token)
}

func (g *globals) json() bool { return g.output == outputJSON }

// The exit codes are part of the interface: scripts decide by them.
const (
	exitOK       = 0
	exitFailed   = 1
	exitUsage    = 2
	exitNotFound = 3
	exitRefused  = 4
	exitPending  = 5
	exitAway     = 6
)

// usageError is a command line that makes no sense.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// coded is an error with an exit code of its own.
type coded struct {
	code  int
	shown bool // the output says it already
	err   error
}

func (e *coded) Error() string { return e.err.Error() }
func (e *coded) Unwrap() error { return e.err }

func isCoded(err error) bool {
	var c *coded
	return errors.As(err, &c)
}

func isShown(err error) bool {
	var c *coded
	return errors.As(err, &c) && c.shown
}

// exitCode is the one table from error to exit code.
func exitCode(err error) int {
	var (
		usage *usageError
		c     *coded
		p     *problem
		away  *awayError
	)
	switch {
	case errors.As(err, &usage), strings.HasPrefix(err.Error(), "if any flags in the group"): // cobra's words; it has no type for them
		return exitUsage
	case errors.As(err, &c):
		return c.code
	case errors.As(err, &p):
		switch {
		case p.Status == 404:
			return exitNotFound
		case p.Status == 429, p.Status >= 500:
			return exitAway
		}
		return exitRefused
	case errors.As(err, &away):
		return exitAway
	}
	return exitFailed
}

// signals returns a context that the first Ctrl-C or SIGTERM ends, and a channel
// that the second one closes. A third ends the process as the system does it.
func signals() (ctx context.Context, hard <-chan struct{}, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	atOnce := make(chan struct{})
	incoming := make(chan os.Signal, 3)
	signal.Notify(incoming, os.Interrupt, syscall.SIGTERM)
	go func() {
		if _, ok := <-incoming; !ok {
			return
		}
		cancel()
		if _, ok := <-incoming; !ok {
			return
		}
		close(atOnce)
		signal.Reset(os.Interrupt, syscall.SIGTERM)
	}()
	return ctx, atOnce, func() {
		signal.Stop(incoming)
		cancel()
	}
}

type hardStopKey struct{}

func withHardStop(ctx context.Context, hard <-chan struct{}) context.Context {
	return context.WithValue(ctx, hardStopKey{}, hard)
}

// hardStop returns the channel that closes when nothing may be waited for any
// longer; nil, which never does, when there is none.
func hardStop(ctx context.Context) <-chan struct{} {
	hard, _ := ctx.Value(hardStopKey{}).(<-chan struct{})
	return hard
}
