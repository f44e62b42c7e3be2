package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/evento-oss/evento/internal/verify"
	"github.com/evento-oss/evento/internal/verify/live"
	"github.com/evento-oss/evento/runtime"
	"github.com/evento-oss/evento/triggers/dispatch"
)

// exitNotVerified is the exit code of verify when it could not look.
const exitNotVerified = 2

type verifyFlags struct {
	kafka    kafkaFlags
	prefix   string
	redis    string
	states   int
	patience time.Duration
	most     int
}

// verifyCommand holds an installation against what is promised.
func verifyCommand(g *globals) *cobra.Command {
	var f verifyFlags
	c := &cobra.Command{
		Use:   "verify",
		Short: "Check a running installation's topics against the promises",
		Long: `Reads all topics of an installation and says what in them contradicts what is
promised: each violation with its coordinates (topic/partition/offset) and what to
do. It writes nothing, joins no consumer group, and may run while gateways work:
it reads up to the ends that the topics have when it begins, and takes what is
under way for what it is.

  I1         a finished command that stood in the wrong partition, or that a
             dispatcher decided on, is in its topic
  I2         one command has one outcome; what the committed position has passed
             has one, or is set aside
  I3         an aggregate's versions are 1, 2, 3..., and eventoprev and eventoskip
             lead to its records
  I4         commands take effect in their order, at the version that they expect
  I5         all of a command's events are there, or none
  I7         snapshots (with --redis) and states (with --gateway) are of the log
  I8         causes are where they are said to be, up to the root
  I11        nobody has written who did not know of the one who came after him
  and        records in the partition of their key, committed positions, set-aside
             records, heads, open transactions, the topics' settings

Kafka is named as for "evento gateway". It needs to read the topics and to describe
topics and groups; layout and partitions are those that the installation recorded.
With --redis the snapshots are read, too, and with --gateway (or EVENTO_GATEWAY) some
aggregates' states are asked for. What clients were told is known to none of these:
that an answer was kept is not checked.

Exit codes: 0 no violation; 1 violations; 2 could not look, or wrong usage.`,
		Example: `  evento verify --kafka-property bootstrap.servers=127.0.0.1:9092
  evento verify --kafka kafka.properties --prefix kf-evento --redis redis://127.0.0.1:6379 -o json
  evento verify --kafka kafka.properties --gateway http://127.0.0.1:8090 --states 5000`,
		Args: exactly("no further words", 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ask := cmd.Flags().Changed("gateway") || os.Getenv("EVENTO_GATEWAY") != ""
			return f.run(cmd.Context(), g, ask, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f.kafka.bind(c)
	p := c.Flags()
	p.StringVar(&f.prefix, "prefix", "kf-evento", "prefix of the topics' names")
	p.StringVar(&f.redis, "redis", "", "URL of Redis, redis://host:port; empty: snapshots are not looked at")
	p.IntVar(&f.states, "states", 1000, "aggregates, at most, that the gateway is asked about")
	p.DurationVar(&f.patience, "patience", 30*time.Second, "how long to wait for transactions that are open, and for what gateways are about to remove")
	p.IntVar(&f.most, "most", 1000, "violations that are shown; all are counted")
	return c
}

func (f *verifyFlags) run(ctx context.Context, g *globals, ask bool, out, progress io.Writer) error {
	settings, err := f.kafka.settings()
	if err != nil {
		return err
	}
	if f.states < 1 || f.most < 1 || f.patience <= 0 {
		return usagef("--states %d, --most %d and --patience %v must be more than 0", f.states, f.most, f.patience)
	}
	client, err := g.client() // checks -o, too
	if err != nil {
		return err
	}
	config := live.Config{
		Kafka: settings, Prefix: f.prefix, DispatcherGroup: dispatch.GroupID, RelayGroup: dispatch.RelayGroupID,
		Redis: f.redis, States: f.states, Patience: f.patience, Most: f.most,
		Log:      slog.New(slog.NewTextHandler(progress, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Progress: func(text string) { fmt.Fprintln(progress, text) },
	}
	if ask {
		config.State = client.stateAsAvro
	}
	began := time.Now()
	result, err := live.Run(ctx, config)
	switch {
	case ctx.Err() != nil:
		return &coded{code: exitNotVerified, err: errors.New("interrupted: nothing can be said of what was not read")}
	case err != nil:
		return &coded{code: exitNotVerified, err: fmt.Errorf("could not look: %w", err)}
	case g.json():
		err = writeVerifiedJSON(out, result)
	default:
		err = writeVerified(out, result, time.Since(began))
	}
	if n := result.Total(); err == nil && n > 0 {
		return &coded{code: exitFailed, shown: true, err: fmt.Errorf("%d violations", n)}
	}
	return err
}

// stateAsAvro asks for an aggregate's newest state.
func (c *client) stateAsAvro(ctx context.Context, id runtime.AggregateID) (live.State, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	a, err := c.do(ctx, request{
		method: http.MethodGet, path: "/v1/aggregates/" + url.PathEscape(string(id)), header: http.Header{"Accept": {runtime.ContentTypeAvro}},
	})
	var p *problem
	if errors.As(err, &p) && p.Status == http.StatusNotFound && p.Version > 0 {
		return live.State{Version: p.Version}, nil // all that it has are refusals, and they leave no state
	}
	if err != nil {
		return live.State{}, err
	}
	s := live.State{Schema: runtime.DataSchema(a.header.Get("Evento-Dataschema")), Data: a.body}
	if _, err := fmt.Sscan(strings.Trim(a.header.Get("Etag"), `"`), &s.Version); err != nil {
		return s, fmt.Errorf("the answer has no version: %w", err)
	}
	return s, nil
}

// verified is what -o json shows.
type verified struct {
	Violations []verify.Violation       `json:"violations"`
	Counts     map[verify.Invariant]int `json:"counts"` // of all violations, by invariant
	Partitions int32                    `json:"partitions"`
	Read       verify.Counts            `json:"read"`
	Asked      int                      `json:"asked"`
	Notes      []string                 `json:"notes"`
}

func writeVerifiedJSON(w io.Writer, r live.Result) error {
	v := verified{r.Violations, r.Counts, r.Partitions, r.Read, r.Asked, r.Notes}
	if v.Violations == nil {
		v.Violations = []verify.Violation{}
	}
	if v.Counts == nil {
		v.Counts = map[verify.Invariant]int{}
	}
	if v.Notes == nil {
		v.Notes = []string{}
	}
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return writeJSON(w, text)
}

// writeVerified shows the violations by invariant, with what to do about each kind.
func writeVerified(w io.Writer, r live.Result, took time.Duration) error {
	var last verify.Invariant
	for _, v := range r.Violations {
		if last != "" && v.Invariant != last {
			fmt.Fprintf(w, "  what to do: %s\n\n", last.Advice())
		}
		last = v.Invariant
		fmt.Fprintln(w, v)
	}
	if last != "" {
		fmt.Fprintf(w, "  what to do: %s\n\n", last.Advice())
	}
	for _, note := range r.Notes {
		fmt.Fprintf(w, "note: %s\n", note)
	}
	fmt.Fprintf(w, "read in %v: %d partitions, %d commands, %d events of %d aggregates, %d decisions, %d snapshots; asked for %d states; %d commands are under way\n",
		took.Round(time.Millisecond), r.Partitions, r.Read.Commands, r.Read.Events, r.Read.Aggregates, r.Read.Decisions, r.Read.Snapshots, r.Asked, r.Read.Waiting)
	n := r.Total()
	if n == 0 {
		fmt.Fprintln(w, "no violation")
		return nil
	}
	fmt.Fprintf(w, "%d violations:", n)
	for _, i := range slices.Sorted(maps.Keys(r.Counts)) {
		fmt.Fprintf(w, " %s %d", i, r.Counts[i])
	}
	if more := n - len(r.Violations); more > 0 {
		fmt.Fprintf(w, "; %d are not shown (--most)", more)
	}
	fmt.Fprintln(w)
	return nil
}
