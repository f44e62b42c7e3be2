package main

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/evento-oss/evento/gateway"
	"github.com/evento-oss/evento/internal/kafka"
	"github.com/evento-oss/evento/runtime"
	"github.com/evento-oss/evento/triggers"
)

// gatewayCommand runs a gateway against a Kafka and a Redis of one's own.
func gatewayCommand() *cobra.Command {
	var f gatewayFlags
	c := &cobra.Command{
		Use:   "gateway",
		Short: "Run a gateway: HTTP API and engine",
		Long: `Runs a gateway against your Kafka and Redis. Run as many as you like on one
Kafka: they share the partitions, and take over from each other.

Kafka is configured with librdkafka's property names, one file for both clients:
--kafka FILE (lines of name=value), or --kafka-property name=value, which wins.
Routing comes from Knative Trigger YAML (--triggers) and from the annotations of
a stack.yml (--stack); both take effect when they change. On loopback nobody has
to authenticate; any other address is refused without --tokens.`,
		Example: `  evento gateway --kafka-property bootstrap.servers=127.0.0.1:9092 --redis redis://127.0.0.1:6379 \
      --schemas examples/bank/schemas --stack stack.yml
  evento gateway --kafka kafka.properties --triggers /etc/evento/triggers --listen 127.0.0.1:8092 --internal 127.0.0.1:8093`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := f.config(slog.New(slog.NewJSONHandler(cmd.ErrOrStderr(), nil)))
			if err != nil {
				return err
			}
			config.Ready = func() { fmt.Fprintf(cmd.OutOrStdout(), "ready on http://%s\n", config.HTTP.Listen) }
			relaxGC()
			return gateway.Run(cmd.Context(), config)
		},
	}
	f.bind(c)
	return c
}

// gatewayFlags are the settings of a gateway as an operator gives them.
type gatewayFlags struct {
	kafka        kafkaFlags
	redis        string
	prefix       string
	layout       string
	partitions   int32
	replication  int
	minInSync    int
	installation string
	listen       string
	internal     string
	advertise    string
	secrets      []string
	tokens       string
	schemas      string
	triggers     []string
	stack        string
	urls         map[string]string
	functionKey  string
	offerStates  int
	session      time.Duration
	http         []string
}

func (f *gatewayFlags) bind(c *cobra.Command) {
	p := c.Flags()
	f.kafka.bind(c)
	p.StringVar(&f.redis, "redis", "", "URL of Redis, redis://host:port; empty: no snapshots, states are rebuilt from events")
	p.StringVar(&f.prefix, "prefix", "kf-evento", "prefix of the topics' names")
	p.StringVar(&f.layout, "layout", string(kafka.Single), "of a new installation: single (one events topic) or per-aggregate")
	p.Int32Var(&f.partitions, "partitions", 0, "of a new installation; 0: 16. It cannot be changed later")
	p.IntVar(&f.replication, "replication", 0, "replicas of new topics; 0: the broker's default")
	p.IntVar(&f.minInSync, "min-insync-replicas", 0, "of new topics; 0: the broker's default")
	p.StringVar(&f.installation, "installation", "evento", "name of the installation, part of the platform's sources")
	p.StringVar(&f.listen, "listen", "127.0.0.1:8090", "host:port of the HTTP API")
	p.StringVar(&f.internal, "internal", "127.0.0.1:8091", "host:port of the listener for other gateways")
	p.StringArrayVar(&f.http, "http-property", nil, "one limit of the HTTP API, name=value, see docs/limits.md; may be repeated")
	p.StringVar(&f.advertise, "advertise", "", "host:port under which other gateways reach --internal")
	p.StringArrayVar(&f.secrets, "internal-secret", nil, "file with a secret that signs calls between gateways; the first signs, all are accepted")
	p.StringVar(&f.tokens, "tokens", "", "file of hashed bearer tokens with principals and rights")
	p.StringVar(&f.schemas, "schemas", "", "folder of .avsc files to register at start")
	p.StringArrayVar(&f.triggers, "triggers", nil, "file or folder of Knative Trigger YAML; may be repeated")
	p.StringVar(&f.stack, "stack", "", "stack.yml whose evento.io annotations declare Triggers")
	p.StringToStringVar(&f.urls, "function-url", nil, "name=URL of a function of the stack; without any, the OpenFaaS gateway that the stack names is used")
	p.StringVar(&f.functionKey, "function-key", "", "file with the key that signs calls to functions")
	p.IntVar(&f.offerStates, "offer-states", gateway.DefaultFunctionLimits().OfferBytes, "bytes from which on a state is named by its hash to functions that keep states, instead of sent; -1: all are sent")
	p.DurationVar(&f.session, "session-timeout", 6*time.Second, "how long a silent gateway keeps its partitions; where it is less than 6s, the loss of a broker ends sessions too")
}

// config checks the flags and reads the files that they name.
func (f *gatewayFlags) config(log *slog.Logger) (gateway.Config, error) {
	var errs []error
	note := func(err error) { errs = append(errs, err) }
	settings, err := f.kafka.settings()
	note(err)
	c := gateway.Config{
		HTTP:  gateway.HTTPConfig{Installation: f.installation, Listen: f.listen, Internal: f.internal, Advertise: f.advertise},
		Kafka: settings, Topics: kafka.Topics{Prefix: f.prefix, Layout: kafka.Layout(f.layout)},
		Partitions: f.partitions, Replication: f.replication, MinInSync: f.minInSync,
		Redis: f.redis, SchemaDir: f.schemas, SessionTimeout: f.session, Log: log,
	}
	if f.offerStates != -1 && f.offerStates < runtime.MinKeptState {
		note(fmt.Errorf("--offer-states is %d; functions keep no state smaller than %d bytes: give at least that, or -1 to send all states", f.offerStates, runtime.MinKeptState))
	}
	c.FunctionLimits.OfferBytes = f.offerStates
	for _, property := range f.http {
		name, value, _ := strings.Cut(property, "=")
		note(c.HTTP.Set(strings.TrimSpace(name), value))
	}
	for _, file := range f.secrets {
		secret, err := os.ReadFile(file)
		note(err)
		c.HTTP.InternalSecrets = append(c.HTTP.InternalSecrets, bytes.TrimSpace(secret))
	}
	if f.tokens != "" {
		text, err := os.ReadFile(f.tokens)
		note(err)
		if err == nil {
			auth, err := gateway.ParseAuthTokens(bytes.NewReader(text))
			note(err)
			c.HTTP.Auth = auth
		}
	}
	if f.functionKey != "" {
		key, err := os.ReadFile(f.functionKey)
		note(err)
		c.FunctionKeys = []runtime.Key{bytes.TrimSpace(key)}
	}
	var sources []triggers.Source
	if len(f.triggers) > 0 {
		sources = append(sources, &triggers.Files{Paths: f.triggers, Log: log})
	}
	if f.stack != "" {
		sources = append(sources, stackSource(f.stack, f.urls, log))
	}
	c.Routes, c.Dispatch = routesFrom(sources, log), dispatchWith
	note(c.HTTP.Check())
	return c, errors.Join(errs...)
}

func stackSource(path string, urls map[string]string, log *slog.Logger) *triggers.Stack {
	s := &triggers.Stack{Path: path, Log: log}
	if len(urls) > 0 {
		s.Function = triggers.Local(urls)
	}
	return s
}

// kafkaFlags are Kafka's settings as people give them: a file, and single ones, which win.
type kafkaFlags struct {
	file       string
	properties []string
}

func (f *kafkaFlags) bind(c *cobra.Command) {
	p := c.Flags()
	p.StringVar(&f.file, "kafka", "", "file of Kafka settings, librdkafka's property names")
	p.StringArrayVar(&f.properties, "kafka-property", nil, "one Kafka setting, name=value; may be repeated")
}

// given says whether there is any.
func (f *kafkaFlags) given() bool { return f.file != "" || len(f.properties) > 0 }

// settings reads the Kafka settings: the file, then what is given one by one.
func (f *kafkaFlags) settings() (kafka.Settings, error) {
	settings := kafka.Settings{}
	if f.file != "" {
		var err error
		if settings, err = kafka.ReadSettings(filepath.Clean(f.file)); err != nil {
			if _, _, port := strings.Cut(f.file, ":"); port && errors.Is(err, os.ErrNotExist) {
				return settings, usagef("--kafka %q is no file; a server is named with --kafka-property bootstrap.servers=%s", f.file, f.file)
			}
			return settings, err
		}
	}
	given := map[string]string{}
	for _, property := range f.properties {
		name, value, ok := strings.Cut(property, "=")
		if !ok {
			return settings, usagef("--kafka-property %q is not name=value", property)
		}
		given[name] = value
	}
	if f.file == "" {
		if given["bootstrap.servers"] == "" {
			return settings, usagef("Kafka is not named: give --kafka-property bootstrap.servers=host:port, or --kafka FILE")
		}
		return kafka.NewSettings(given) // checked together: one may need another
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		var err error
		if settings, err = settings.With(name, given[name]); err != nil {
			return settings, err
		}
	}
	return settings, nil
}
