package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/evento-oss/evento/runtime"
)

type (
	parkedList struct {
		Parked []parkedItem `json:"parked"`
	}
	parkedItem struct {
		Coordinates string    `json:"coordinates"` // of the command, or of the event
		Entity      string    `json:"entity"`
		Command     string    `json:"command"`
		Type        string    `json:"type"`
		Status      string    `json:"status"` // retrying, held or parked
		Attempts    int       `json:"attempts"`
		NextTry     time.Time `json:"next_try"`
		Reason      string    `json:"reason"`
		Function    string    `json:"function"`
	}
)

func parkedCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "parked",
		Short: "List, retry, drop or re-issue commands that do not succeed, and retry events that dispatchers parked",
		Long: `A command whose function fails is tried again and again, with growing waits;
its aggregate waits with it, all others go on. Such a command is:

  retrying   tried again soon
  held       its attempts are used up; tried on at the longest wait
  parked     given up: its outcome is evento.CommandParked; its aggregate goes on.
             It is listed until you re-issue or drop it

An event that a dispatcher failed on is parked for that dispatcher, listed with it,
and can be retried by the event's coordinates.`,
		Example: `  evento parked list
  evento parked retry kf-evento-commands/3/1042
  evento parked drop kf-evento-commands/3/1042 --reason "the ATM is gone"
  evento parked reissue kf-evento-commands/3/977`,
		RunE: subcommandNeeded,
		Args: cobra.ArbitraryArgs,
	}
	cmd.AddCommand(parkedListCommand(g), parkedRetryCommand(g), parkedDropCommand(g), parkedReissueCommand(g))
	return cmd
}

// subcommandNeeded shows the help of a command that only groups others.
func subcommandNeeded(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	return usagef("there is no command %q in %q", args[0], cmd.CommandPath())
}

func parkedListCommand(g *globals) *cobra.Command {
	var aggregate, status string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the commands that do not succeed",
		Example: `  evento parked list
  evento parked list --status held
  evento parked list --aggregate checking:54321-90 -o json`,
		Args: exactly("no further words", 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			query := url.Values{}
			if aggregate != "" {
				query.Set("aggregate", aggregate)
			}
			if status != "" {
				query.Set("status", status)
			}
			var list parkedList
			a, err := c.get(cmd.Context(), "/v1/parked", query, &list)
			switch {
			case err != nil:
				return err
			case g.json():
				return writeJSON(cmd.OutOrStdout(), a.body)
			}
			return writeParked(cmd.OutOrStdout(), list.Parked)
		},
	}
	cmd.Flags().StringVar(&aggregate, "aggregate", "", "only those of this aggregate")
	cmd.Flags().StringVar(&status, "status", "", "only retrying, held or parked ones")
	return cmd
}

func writeParked(w io.Writer, items []parkedItem) error {
	if len(items) == 0 {
		_, err := fmt.Fprintln(w, "none: every command has succeeded or is on its way")
		return err
	}
	t := table(w)
	fmt.Fprintln(t, "STATUS\tCOORDINATES\tENTITY\tTYPE\tATTEMPTS\tNEXT TRY\tREASON")
	for _, i := range items {
		reason := i.Reason
		if i.Function != "" {
			reason = i.Function + ": " + reason
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%s\t%s\n",
			i.Status, i.Coordinates, i.Entity, i.Type, i.Attempts, clock(i.NextTry), short(strings.ReplaceAll(reason, "\n", " "), 120))
	}
	return t.Flush()
}

func parkedRetryCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:     "retry <coordinates>",
		Short:   "Try a command again now",
		Example: `  evento parked retry kf-evento-commands/3/1042`,
		Args:    exactly("the command's coordinates, as `evento parked list` shows them", 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return order(cmd, g, args[0], "retry", nil, "it is tried again now; see: evento parked list")
		},
	}
}

func parkedDropCommand(g *globals) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "drop <coordinates> --reason <why>",
		Short: "Give a command up, so that its aggregate goes on",
		Long: `Gives a command up: its outcome becomes evento.CommandParked with your reason, for
ever, and its aggregate goes on with the next command. One that is parked already
is taken off the list; its outcome stays.`,
		Example: `  evento parked drop kf-evento-commands/3/1042 --reason "the ATM is gone"`,
		Args:    exactly("the command's coordinates, as `evento parked list` shows them", 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if reason == "" {
				return usagef("give a --reason; it stands in the command's outcome")
			}
			return order(cmd, g, args[0], "drop", map[string]string{"reason": reason}, "it is dropped; see: evento parked list")
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why; recorded in the outcome")
	return cmd
}

func parkedReissueCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "reissue <coordinates>",
		Short: "Send a parked command again, as a new one",
		Long: `Sends a parked command again, as a new one whose cause is the evento.CommandParked
of the first, and takes the first off the list. Done twice it has one effect.`,
		Example: `  evento parked reissue kf-evento-commands/3/977`,
		Args:    exactly("the command's coordinates, as `evento parked list` shows them", 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return order(cmd, g, args[0], "reissue", nil, "it is sent again; see: evento events, evento parked list")
		},
	}
}

// order tells the gateway to do something with a parked command.
func order(cmd *cobra.Command, g *globals, coordinates, what string, body any, said string) error {
	at, err := runtime.ParseCoordinates(coordinates)
	if err != nil {
		return &usageError{err}
	}
	c, err := g.client()
	if err != nil {
		return err
	}
	path := "/v1/parked/" + url.PathEscape(at.Topic) + "/" + strconv.Itoa(int(at.Partition)) + "/" + strconv.FormatInt(at.Offset, 10) + "/" + what
	const wait = 10 * time.Second // for the single writer to have heard it
	r := request{method: http.MethodPost, path: path, header: http.Header{"Prefer": {preferWait(wait)}}, body: body, wait: wait}
	a, err := c.do(cmd.Context(), r)
	if err != nil {
		return err
	}
	if g.json() && len(a.body) > 0 {
		return writeJSON(cmd.OutOrStdout(), a.body)
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), said)
	return err
}
