package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/evento-oss/evento/runtime"
)

// link is a message of a chain of causes.
type link struct {
	Kind string `json:"kind"` // event, command, publication or hidden
	event
}

type linkList struct {
	Links []json.RawMessage `json:"links"` // newest first
	Next  string            `json:"next"`
}

func causeCommand(g *globals) *cobra.Command {
	var source string
	cmd := &cobra.Command{
		Use:   "cause <coordinates> | <entity> <id>",
		Short: "Show why something happened: the chain of causes to its root",
		Long: `Shows what made a message happen, from the root, which came from outside, down to
the message itself: each line was caused by the one above it.

The message is named by where it stands in Kafka (topic/partition/offset, as
"coordinates" in all answers), or by its entity and the id of the event or command.`,
		Example: `  evento cause kf-evento-events/3/1042
  evento cause checking:54321-90 deposit-2
  evento cause checking:54321-90 deposit-2 --source /clients/atm
  evento cause kf-evento-events/3/1042 -o json | jq '.links[-1]'   # the root`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 && len(args) != 2 {
				return usagef("give the coordinates, for example: evento cause kf-evento-events/3/1042, or the entity and the id: evento cause checking:54321-90 deposit-2 (there are %d words)", len(args))
			}
			return nil
		},
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			path, err := causePath(args)
			if err != nil {
				return err
			}
			query := url.Values{}
			if source != "" {
				if len(args) == 1 {
					return usagef("--source belongs to an id: coordinates name one message alone")
				}
				query.Set("source", source)
			}
			links, failed := wholeChain(cmd.Context(), c, path, query)
			if failed != nil && len(links) == 0 {
				return failed
			}
			if g.json() {
				if failed != nil {
					return failed
				}
				text, err := json.Marshal(map[string]any{"links": links})
				if err != nil {
					return err
				}
				return writeJSON(cmd.OutOrStdout(), text)
			}
			return errors.Join(writeChain(cmd.OutOrStdout(), links, failed != nil), failed)
		},
	}
	cmd.Flags().StringVar(&source, "source", "", "who sent the command with this id, if not you")
	return cmd
}

// causePath returns the API's path of a chain.
func causePath(args []string) (string, error) {
	if len(args) == 2 {
		if _, err := runtime.ParseEntity(args[0]); err != nil {
			return "", &usageError{err}
		}
		return "/v1/causes/" + url.PathEscape(args[0]) + "/" + url.PathEscape(args[1]), nil
	}
	at, err := runtime.ParseCoordinates(args[0])
	if err != nil {
		if _, bad := runtime.ParseEntity(args[0]); bad == nil {
			return "", usagef("%q is an entity: give the id of one of its events or commands too, for example: evento cause %s deposit-2", args[0], args[0])
		}
		return "", &usageError{err}
	}
	return "/v1/causes/" + url.PathEscape(at.Topic) + "/" + strconv.Itoa(int(at.Partition)) + "/" + strconv.FormatInt(at.Offset, 10), nil
}

// wholeChain reads a chain page by page. What was found comes with an error too.
func wholeChain(ctx context.Context, c *client, path string, query url.Values) ([]json.RawMessage, error) {
	var links []json.RawMessage
	for asked := map[string]bool{}; ; {
		var page linkList
		_, err := c.get(ctx, path, query, &page)
		var p *problem
		if errors.As(err, &p) {
			page.Links = p.links
		}
		links = append(links, page.Links...)
		if err != nil || page.Next == "" {
			return links, err
		}
		if asked[page.Next] {
			return links, fmt.Errorf("the chain of causes comes to %s again: it runs in a circle", page.Next)
		}
		asked[page.Next] = true
		if path, err = causePath([]string{page.Next}); err != nil {
			return links, err
		}
		query = nil
	}
}

// deepest is how far a chain is indented; below, lines stand one under the other.
const deepest = 20

// writeChain shows a chain, the root first. Of a cut one the root is not known.
func writeChain(w io.Writer, links []json.RawMessage, cut bool) error {
	depth := 0
	line := func(text string) error {
		lead := ""
		if depth > 0 {
			lead = strings.Repeat("   ", min(depth, deepest)-1) + "└─ "
		}
		depth++
		_, err := fmt.Fprintln(w, lead+text)
		return err
	}
	if cut {
		if err := line("?"); err != nil {
			return err
		}
	}
	for i := len(links) - 1; i >= 0; i-- {
		var l link
		if err := json.Unmarshal(links[i], &l); err != nil {
			return fmt.Errorf("a link of the answer is not what this version of evento understands: %w", err)
		}
		if err := line(l.String()); err != nil {
			return err
		}
	}
	return nil
}

func (l link) String() string {
	if l.Kind == "hidden" {
		return "hidden: you may not read this aggregate  " + l.Coordinates
	}
	text := l.Kind + " " + l.Type + "  " + l.Entity
	if l.Version > 0 {
		text += fmt.Sprintf("  version %d", l.Version)
	}
	when := l.RecordedTime
	if when.IsZero() {
		when = l.Time
	}
	return text + "  " + clock(when) + "  " + l.Coordinates + "  " + short(compact(l.Payload), 120)
}
