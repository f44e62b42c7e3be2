package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/evento-oss/evento/runtime"
)

func getCommand(g *globals) *cobra.Command {
	var (
		minVersion      uint64
		wait            time.Duration
		command, source string
	)
	cmd := &cobra.Command{
		Use:   "get <entity>",
		Short: "Show the state of an aggregate, or the outcome of a command",
		Example: `  evento get checking:54321-90
  evento get checking:54321-90 -o json
  evento get checking:54321-90 --min-version 3        # wait until version 3 is there
  evento get checking:54321-90 --command deposit-2    # what became of a command`,
		Args:              exactly("the entity, for example: evento get checking:54321-90", 1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			path, err := aggregatePath(args[0])
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if command != "" {
				query := url.Values{}
				if source != "" {
					query.Set("source", source)
				}
				var o outcome
				a, err := c.get(cmd.Context(), path+"/commands/"+url.PathEscape(command), query, &o)
				switch {
				case err != nil:
					return err
				case g.json():
					return writeJSON(out, a.body)
				}
				return writeOutcome(out, o)
			}
			r := request{method: http.MethodGet, path: path, query: url.Values{}}
			if minVersion > 0 {
				r.query.Set("min-version", strconv.FormatUint(minVersion, 10))
				r.wait = wait
				r.header = http.Header{"Prefer": {preferWait(wait)}}
			}
			a, err := c.do(cmd.Context(), r)
			if err != nil {
				return err
			}
			if g.json() {
				return writeJSON(out, a.body)
			}
			var one aggregate
			if err := a.decode(&one); err != nil {
				return err
			}
			fmt.Fprintf(out, "%s  %s  version %d\n", one.Entity, one.Type, one.Version)
			var b bytes.Buffer
			if err := json.Indent(&b, one.State, "", "  "); err != nil {
				return fmt.Errorf("the state is no JSON: %w", err)
			}
			b.WriteByte('\n')
			_, err = b.WriteTo(out)
			return err
		},
	}
	cmd.Flags().Uint64Var(&minVersion, "min-version", 0, "wait until the aggregate has at least this version")
	cmd.Flags().DurationVar(&wait, "wait", 10*time.Second, "how long to wait for --min-version")
	cmd.Flags().StringVar(&command, "command", "", "show the outcome of the command with this id instead")
	cmd.Flags().StringVar(&source, "source", "", "who sent the command, if not you")
	cmd.MarkFlagsMutuallyExclusive("min-version", "command")
	return cmd
}

// aggregatePath returns the API's path of an entity.
func aggregatePath(entity string) (string, error) {
	if _, err := runtime.ParseEntity(entity); err != nil {
		return "", &usageError{err}
	}
	// A child's '/' is escaped: it is one segment of the path.
	return "/v1/aggregates/" + url.PathEscape(entity), nil
}

// exactly is cobra.ExactArgs with a message that says what to type.
func exactly(what string, n int) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != n {
			return usagef("give %s (there are %d words, not %d)", what, len(args), n)
		}
		return nil
	}
}
