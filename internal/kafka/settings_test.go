package kafka

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ck "github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/twmb/franz-go/pkg/kgo"
)

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Every property is given to both clients at once, so that one which either of
// them refuses cannot stay in the table.
func TestSettingsAreTakenByBothClients(t *testing.T) {
	t.Parallel()
	all := map[string]string{
		"bootstrap.servers": "127.0.0.1:1, [::1]:2", "client.id": "gateway-1", "client.rack": "a",
		"security.protocol": "sasl_ssl", "sasl.mechanisms": "SCRAM-SHA-512", "sasl.username": "u", "sasl.password": "p",
		"ssl.endpoint.identification.algorithm": "none", "compression.codec": "zstd", "linger.ms": "0.5",
	}
	for name, p := range properties {
		if p.kind == number && all[name] == "" {
			all[name] = p.fallback
			if p.fallback == "" {
				all[name] = plainNumber(p.max)
			}
		}
	}
	s, err := NewSettings(all)
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range properties {
		if _, set := all[name]; !set && p.kind != pathTo {
			t.Errorf("property %q is not tried here", name)
		}
	}
	opts, err := s.Franz(quiet())
	if err != nil {
		t.Fatal(err)
	}
	if err := kgo.ValidateOpts(opts...); err != nil {
		t.Errorf("franz-go: %v", err)
	}
	if cl, err := kgo.NewClient(opts...); err != nil {
		t.Errorf("franz-go: %v", err)
	} else {
		if off := cl.OptValue(kgo.DisableClientMetrics); off != true {
			t.Errorf("franz-go sends metrics of its own to the brokers (%v)", off)
		}
		cl.Close()
	}
	for _, role := range []Role{Admins, Producers, Consumers} {
		config, err := s.Confluent(role, nil)
		if err != nil {
			t.Fatal(err)
		}
		if push := (*config)["enable.metrics.push"]; push != false {
			t.Errorf("librdkafka, role %d, sends metrics of its own to the brokers (%v)", role, push)
		}
		logs := make(chan ck.LogEvent, 100)
		(*config)["go.logs.channel.enable"], (*config)["go.logs.channel"] = true, logs
		closeClient, err := openConfluent(role, config)
		if err != nil {
			t.Errorf("librdkafka, role %d: %v", role, err)
			continue
		}
		closeClient()
		for {
			select {
			case l := <-logs:
				if l.Tag == "CONFWARN" && !strings.Contains(l.Message, "ssl.endpoint") {
					t.Errorf("librdkafka, role %d, warns: %s", role, l.Message)
				}
				continue
			default:
			}
			break
		}
	}
}

func openConfluent(role Role, config *ck.ConfigMap) (func(), error) {
	switch role {
	case Producers:
		c, err := ck.NewProducer(config)
		if err != nil {
			return nil, err
		}
		return c.Close, nil
	case Consumers:
		(*config)["group.id"] = "g"
		c, err := ck.NewConsumer(config)
		if err != nil {
			return nil, err
		}
		return func() { _ = c.Close() }, nil
	default:
		c, err := ck.NewAdminClient(config)
		if err != nil {
			return nil, err
		}
		return c.Close, nil
	}
}

func TestSettingsRefuse(t *testing.T) {
	t.Parallel()
	const base = "bootstrap.servers=localhost:9092\n"
	for name, c := range map[string]struct{ file, want string }{
		"unknown with a neighbour":    {base + "linger.mss=1", `property "linger.mss" is not known to Evento (it must mean the same to both of its Kafka clients); similar are: "linger.ms"`},
		"unknown without a neighbour": {base + "sasl.oauthbearer.token.endpoint.url=x", `known are: bootstrap.servers, client.id`},
		"no brokers":                  {"client.id=x", `"bootstrap.servers" is missing`},
		"broker without port":         {"bootstrap.servers=a:1,b", `"b" in "a:1,b" is not host:port`},
		"twice":                       {base + base, `line 2: property "bootstrap.servers" stands there twice`},
		"twice by alias":              {base + "linger.ms=1\nqueue.buffering.max.ms=2", `property "linger.ms" is set twice`},
		"no property":                 {base + "hunter2", "line 2 is not property=value"},
		"fixed":                       {base + "acks=1", `property "acks" cannot be set to "1": a command answered with 2xx`},
		"not a number":                {base + "linger.ms=5s", `property "linger.ms": "5s" is not a number`},
		"out of range":                {base + "session.timeout.ms=5", `5 is not between 100 and 3600000`},
		"not whole":                   {base + "session.timeout.ms=5000.5", `not a whole number`},
		"not a number at all":         {base + "linger.ms=NaN", `is not between 0 and 60000`},
		"not a word":                  {base + "compression.codec=brotli", `"brotli" is none of none, gzip, snappy, lz4, zstd`},
		"heartbeat":                   {base + "heartbeat.interval.ms=7000", `"heartbeat.interval.ms" (7000) is greater than "session.timeout.ms" (6000)`},
		"sasl without protocol":       {base + "sasl.username=x", `property "sasl.username" has no meaning with security.protocol "plaintext"`},
		"ssl without protocol":        {base + "ssl.endpoint.identification.algorithm=none", `has no meaning with security.protocol "plaintext"`},
		"sasl incomplete":             {base + "security.protocol=sasl_ssl\nsasl.mechanism=PLAIN\nsasl.username=x", `"sasl.password" is missing`},
		"no such file":                {base + "security.protocol=ssl\nssl.ca.location=/nowhere/ca.pem", `/nowhere/ca.pem`},
		"no such secret":              {base + "security.protocol=sasl_ssl\nsasl.mechanism=PLAIN\nsasl.username=x\nsasl.password=file:/nowhere/p", `/nowhere/p`},
		"fetch above receive":         {base + "fetch.max.bytes=100000000", `must be at least 512 below`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := ParseSettings(strings.NewReader(c.file))
			if !errors.Is(err, ErrSettings) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an ErrSettings with %q", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error shows what may be a secret: %v", err)
			}
		})
	}
	_, err := NewSettings(map[string]string{"a.b": "1", "linger.ms": "x"})
	if err == nil || !strings.Contains(err.Error(), `"a.b"`) || !strings.Contains(err.Error(), `"linger.ms"`) {
		t.Errorf("not all problems at once: %v", err)
	}
}

func TestSettingsBeginWithNone(t *testing.T) {
	s, err := Settings{}.With("bootstrap.servers", "127.0.0.1:9092")
	if err != nil || s.Get("bootstrap.servers") != "127.0.0.1:9092" {
		t.Errorf("%q, %v", s.Get("bootstrap.servers"), err)
	}
}

func TestSettingsHideSecrets(t *testing.T) {
	t.Parallel()
	path := write(t, "kafka.properties", "# ours\nbootstrap.servers = b:9092\nsecurity.protocol=sasl_ssl\nsasl.mechanism=PLAIN\nsasl.username=evento\nsasl.password=file:secret\n")
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), "secret"), []byte("hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := ReadSettings(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if text := fmt.Sprintf(verb, s); strings.Contains(text, "hunter2") || !strings.Contains(text, "sasl.password=(secret)") {
			t.Errorf("printed with %s: %s", verb, text)
		}
	}
	if text := s.LogValue().String(); strings.Contains(text, "hunter2") {
		t.Errorf("logged: %s", text)
	}
	config, err := s.Confluent(Admins, ck.ConfigMap{"debug": "broker"})
	if err != nil || (*config)["sasl.password"] != "hunter2" || (*config)["debug"] != "broker" {
		t.Errorf("Confluent: password %v, debug %v, error %v", (*config)["sasl.password"], (*config)["debug"], err)
	}
	// A rotated secret is what franz-go's next connection uses.
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), "secret"), []byte("hunter3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if pass, err := s.password(); pass != "hunter3" || err != nil {
		t.Errorf("after rotation: %q, %v", pass, err)
	}
	changed, err := s.With("client.id", "x")
	if err != nil || changed.Get("client.id") != "x" || s.Get("client.id") != "evento" {
		t.Errorf("With: %q, %q, %v", changed.Get("client.id"), s.Get("client.id"), err)
	}
	if got := s.Duration("session.timeout.ms"); got.Seconds() != 6 {
		t.Errorf("session.timeout.ms is %v without being set, want Evento's default", got)
	}
}
