package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/evento-oss/evento/runtime"
)

// eventsPage is how many events one call asks for.
const eventsPage = 500

func eventsCommand(g *globals) *cobra.Command {
	var (
		after uint64
		limit int
		f     followFlags
	)
	cmd := &cobra.Command{
		Use:   "events [<entity>]",
		Short: "Show the history of an aggregate, or follow events as they come",
		Long: `Shows the events of an aggregate, oldest first. With -o json there is one event
on a line, so that a history of any length can be piped on.

With --follow it shows events as they are committed, of one entity or of all, until
Ctrl-C. When the connection breaks it goes on where it was: nothing is missed, and
nothing is shown twice.`,
		Example: `  evento events checking:54321-90
  evento events checking:54321-90 --after 10 --limit 5
  evento events checking:54321-90 -o json | jq .payload
  evento events --follow                                    # everything that happens
  evento events --follow checking:54321-90 --from earliest
  evento events --follow --type CashWithdrawn,DepositReceived --aggregate CheckingAccount`,
		Args: func(cmd *cobra.Command, args []string) error {
			if f.follow {
				return f.check(args, after > 0 || limit != 0)
			}
			if f.given() {
				return usagef("--type, --aggregate and --from belong to --follow")
			}
			return exactly("the entity, for example: evento events checking:54321-90, or follow all with: evento events --follow", 1)(cmd, args)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			if f.follow {
				show := showFollowedText
				if g.json() {
					show = showEventJSON
				}
				return follow(cmd.Context(), c, f.query(args), cmd.ErrOrStderr(), func(raw json.RawMessage) error {
					return show(cmd.OutOrStdout(), raw)
				})
			}
			path, err := aggregatePath(args[0])
			if err != nil {
				return err
			}
			if limit < 0 {
				return usagef("--limit %d is negative; 0 shows all", limit)
			}
			show := showEventText
			if g.json() {
				show = showEventJSON
			}
			return eachEvent(cmd.Context(), c, path+"/events", after, limit, func(raw json.RawMessage) error {
				return show(cmd.OutOrStdout(), raw)
			})
		},
	}
	cmd.Flags().Uint64Var(&after, "after", 0, "show the events after this version")
	cmd.Flags().IntVar(&limit, "limit", 0, "show at most so many; 0 shows all")
	cmd.Flags().BoolVarP(&f.follow, "follow", "f", false, "show events as they come, until Ctrl-C; without an entity all of them")
	cmd.Flags().StringVar(&f.types, "type", "", "with --follow: only events of these types, separated by commas")
	cmd.Flags().StringVar(&f.aggregates, "aggregate", "", "with --follow: only of these types of aggregates, separated by commas")
	cmd.Flags().StringVar(&f.from, "from", "", "with --follow: latest (the default) or earliest")
	completeFlag(cmd, "from", "latest", "earliest")
	return cmd
}

// followFlags are the flags of --follow.
type followFlags struct {
	follow                  bool
	types, aggregates, from string
}

func (f *followFlags) given() bool { return f.types+f.aggregates+f.from != "" }

func (f *followFlags) check(args []string, paged bool) error {
	switch {
	case paged:
		return usagef("--after and --limit are of a history; --follow takes --from earliest or latest")
	case len(args) > 1:
		return usagef("give one entity at most (there are %d words); a beginning with a * follows many: evento events --follow 'checking:*'", len(args))
	case f.from != "" && f.from != "latest" && f.from != "earliest":
		return usagef("--from %q is neither latest nor earliest", f.from)
	case len(args) == 1 && !strings.HasSuffix(args[0], "*"):
		if _, err := runtime.ParseEntity(args[0]); err != nil {
			return &usageError{err}
		}
	}
	return nil
}

func (f *followFlags) query(args []string) url.Values {
	q := url.Values{}
	for name, value := range map[string]string{"type": f.types, "aggregate": f.aggregates, "from": f.from} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if len(args) == 1 {
		q.Set("entity", args[0])
	}
	return q
}

// eachEvent reads a history page by page. limit 0 means all.
func eachEvent(ctx context.Context, c *client, path string, after uint64, limit int, do func(json.RawMessage) error) error {
	query := url.Values{}
	if after > 0 {
		query.Set("after", strconv.FormatUint(after, 10))
	}
	for shown := 0; ; {
		page := eventsPage
		if limit > 0 {
			page = min(page, limit-shown)
		}
		query.Set("limit", strconv.Itoa(page))
		var list eventList
		if _, err := c.get(ctx, path, query, &list); err != nil {
			return err
		}
		for _, e := range list.Events {
			if err := do(e); err != nil {
				return err
			}
			if shown++; shown == limit {
				return nil
			}
		}
		next := nextPage(list.Next)
		if next == "" || next == query.Get("after") {
			return nil
		}
		query.Set("after", next)
	}
}

// nextPage reads where the next page begins; "" when there is none.
func nextPage(raw json.RawMessage) string {
	text := strings.Trim(string(raw), `"`)
	if text == "null" || text == "0" {
		return ""
	}
	return text
}

func showEventJSON(w io.Writer, raw json.RawMessage) error {
	_, err := fmt.Fprintln(w, compact(raw))
	return err
}

func showEventText(w io.Writer, raw json.RawMessage) error {
	var e event
	if err := json.Unmarshal(raw, &e); err != nil {
		return fmt.Errorf("an event of the answer is not what this version of evento understands: %w", err)
	}
	_, err := fmt.Fprintf(w, "%4s  %s  %s  %s\n", versionText(e.Version), clock(e.Time), e.Type, compact(e.Payload))
	return err
}

// showFollowedText shows the entity too, as there may be many.
func showFollowedText(w io.Writer, raw json.RawMessage) error {
	var e event
	if err := json.Unmarshal(raw, &e); err != nil {
		return fmt.Errorf("an event of the stream is not what this version of evento understands: %w", err)
	}
	_, err := fmt.Fprintf(w, "%s  %s  %s  %s  %s\n", clock(e.Time), e.Entity, versionText(e.Version), e.Type, compact(e.Payload))
	return err
}
