package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

type triggerList struct {
	Triggers []triggerItem `json:"triggers"`
}

type triggerItem struct {
	Name       string            `json:"name"` // namespace/name
	Role       string            `json:"role"`
	Aggregate  string            `json:"aggregate"`
	Filter     string            `json:"filter"`
	Subscriber string            `json:"subscriber"`
	Source     string            `json:"source"`
	Delivery   map[string]string `json:"delivery"`
	Error      string            `json:"error"`
}

func triggersCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "triggers",
		Short: "List what routes where",
		Long: `Lists the Triggers that the gateway works with: which function gets which commands
and events. A Trigger that does not route is shown with the reason.`,
		Example: `  evento triggers
  evento triggers -o json | jq '.triggers[].delivery'`,
		Args:              exactly("no further words", 0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			var list triggerList
			a, err := c.get(cmd.Context(), "/v1/triggers", nil, &list)
			out := cmd.OutOrStdout()
			switch {
			case err != nil:
				return err
			case g.json():
				return writeJSON(out, a.body)
			case len(list.Triggers) == 0:
				_, err := fmt.Fprintln(out, "none; declare them in Trigger YAML (evento gateway --triggers) or in a stack.yml (--stack)")
				return err
			}
			t := table(out)
			fmt.Fprintln(t, "TRIGGER\tROLE\tAGGREGATE\tFILTER\tSUBSCRIBER\tSOURCE")
			for _, i := range list.Triggers {
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", i.Name, i.Role, dash(i.Aggregate), dash(short(i.Filter, 60)), dash(i.Subscriber), dash(i.Source))
			}
			if err := t.Flush(); err != nil {
				return err
			}
			for _, i := range list.Triggers {
				if i.Error != "" {
					fmt.Fprintf(out, "%s does not route: %s\n", i.Name, i.Error)
				}
			}
			return nil
		},
	}
}

// dash stands for what a table has nothing for.
func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// replayEpoch returns the replay epoch of a dispatcher as If-Match takes it, or ""
// where the gateway does not tell.
func replayEpoch(ctx context.Context, c *client, name string) string {
	var list struct {
		Triggers []struct {
			Name     string `json:"name"`
			Dispatch *struct {
				Epoch uint64 `json:"epoch"`
			} `json:"dispatch"`
		} `json:"triggers"`
	}
	if _, err := c.get(ctx, "/v1/triggers", nil, &list); err != nil {
		return "" // the order itself will say what is wrong
	}
	for _, t := range list.Triggers {
		if t.Name == name && t.Dispatch != nil {
			return strconv.Quote(strconv.FormatUint(t.Dispatch.Epoch, 10))
		}
	}
	return ""
}

func replayCommand(g *globals) *cobra.Command {
	var from string
	cmd := &cobra.Command{
		Use:   "replay <namespace/name> --from earliest|latest|<time>",
		Short: "Give a dispatcher or sink past events again",
		Long: `Sets a Trigger back, so that it is given the events from there on again, or on, so that it
leaves out what it has not been given yet (latest). What a dispatcher decides on events that it is
given again are new commands, with new ids: they take effect again.

A time is RFC 3339, with a time zone: 2026-11-22T10:00:00Z.`,
		Example: `  evento replay bank/close-accounts --from earliest
  evento replay bank/statements --from 2026-11-22T10:00:00Z
  evento replay bank/statements --from latest`,
		Args:              exactly("the Trigger's namespace/name, as `evento triggers` shows it", 1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			namespace, name, ok := strings.Cut(args[0], "/")
			if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
				return usagef("%q is not namespace/name; see: evento triggers", args[0])
			}
			switch _, err := time.Parse(time.RFC3339, from); {
			case from == "":
				return usagef("say from where: --from earliest, --from latest, or --from %s", time.Now().UTC().Format(time.RFC3339))
			case from != "earliest" && from != "latest" && err != nil:
				return usagef("--from %q is neither earliest nor latest nor a time such as %s", from, time.Now().UTC().Format(time.RFC3339))
			}
			c, err := g.client()
			if err != nil {
				return err
			}
			path := "/v1/triggers/" + url.PathEscape(namespace) + "/" + url.PathEscape(name) + "/replay"
			r := request{method: http.MethodPost, path: path, body: map[string]string{"from": from}}
			epoch := replayEpoch(cmd.Context(), c, args[0])
			if epoch != "" {
				r.header = http.Header{"If-Match": {epoch}}
			}
			a, err := c.do(cmd.Context(), r)
			if err != nil && epoch != "" && exitCode(err) == exitAway {
				// It may have been kept. With the epoch the same order is one order.
				a, err = c.do(cmd.Context(), r)
			}
			if err != nil {
				return err
			}
			if g.json() && len(a.body) > 0 {
				return writeJSON(cmd.OutOrStdout(), a.body)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s goes on from %s\n", args[0], from)
			return err
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "earliest, latest, or a time (RFC 3339)")
	completeFlag(cmd, "from", "earliest", "latest")
	return cmd
}
