package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// kind says what the value of a property looks like.
type kind uint8

const (
	text    kind = iota // any text
	number              // a whole number; linger.ms may have a fraction
	words               // one of a list
	pathTo              // a file that exists
	servers             // host:port,host:port
	secret              // never shown; may come from a file
)

// property says what one of librdkafka's properties means to both clients.
type property struct {
	kind      kind
	roles     Role     // confluent clients that understand it; 0 for all
	franzOnly bool     // only the fenced transaction has it
	confluent string   // librdkafka's name where it is another one
	fallback  string   // what Evento sets when the user does not; "" leaves it to the clients
	words     []string // of kind words
	min, max  float64  // of kind number
	fractions bool     // of kind number: it need not be whole
	franz     func(value string) kgo.Opt
}

// properties is the whole of what can be set. librdkafka takes a property under
// its own name, but for the column confluent; the column franz says how franz-go is
// told the same.
//
// Defaults stand here where the two clients' own ones differ, so that one file
// means one thing.
var properties = map[string]property{
	"bootstrap.servers": {kind: servers, franz: func(v string) kgo.Opt { return kgo.SeedBrokers(strings.Split(v, ",")...) }},
	"client.id":         {kind: text, fallback: "evento", franz: func(v string) kgo.Opt { return kgo.ClientID(v) }},
	"client.rack":       {kind: text, franz: func(v string) kgo.Opt { return kgo.Rack(v) }},

	// Security: see franzSASL and dialer.
	"security.protocol":                     {kind: words, fallback: "plaintext", words: []string{"plaintext", "ssl", "sasl_plaintext", "sasl_ssl"}},
	"sasl.mechanisms":                       {kind: words, words: []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"}},
	"sasl.username":                         {kind: text},
	"sasl.password":                         {kind: secret},
	"ssl.ca.location":                       {kind: pathTo},
	"ssl.certificate.location":              {kind: pathTo},
	"ssl.key.location":                      {kind: pathTo},
	"ssl.endpoint.identification.algorithm": {kind: words, words: []string{"https", "none"}},

	// Connections. A request's time in franz-go is this on top of what the
	// request itself allows the broker; in librdkafka no request takes longer, but
	// for those that wait at the broker (fetch, join). It is by this that
	// librdkafka finds out that a broker has fallen silent: see also reach.
	"socket.timeout.ms":                  {kind: number, fallback: "6000", min: 100, max: 300_000, franz: millis(kgo.RequestTimeoutOverhead)},
	"socket.connection.setup.timeout.ms": {kind: number, fallback: "10000", min: 1000, max: 300_000}, // franz-go: see dialer
	"connections.max.idle.ms":            {kind: number, min: 1000, max: 900_000, franz: millis(kgo.ConnIdleTimeout)},
	"receive.message.max.bytes":          {kind: number, fallback: "100000000", min: 1024, max: 1 << 30, franz: bytes32(kgo.BrokerMaxReadBytes)},
	"retry.backoff.ms":                   {kind: number, fallback: "100", min: 1, max: 300_000},
	"retry.backoff.max.ms":               {kind: number, fallback: "1000", min: 1, max: 300_000},

	// How often a client asks who leads, and so hears that it is not whom it waits for
	// any more. librdkafka only forgets by the property of this name.
	"metadata.max.age.ms": {kind: number, fallback: "2000", confluent: "topic.metadata.refresh.interval.ms", min: 1000, max: 3_600_000, franz: millis(kgo.MetadataMaxAge)},

	// Writing. message.max.bytes bounds a request in librdkafka and a batch in
	// franz-go: a record of this size minus its framing passes both.
	"message.max.bytes":      {kind: number, fallback: "1000000", min: 1000, max: 100_000_000, franz: bytes32(kgo.ProducerBatchMaxBytes)},
	"compression.codec":      {kind: words, roles: Producers, fallback: "none", words: []string{"none", "gzip", "snappy", "lz4", "zstd"}, franz: franzCompression},
	"linger.ms":              {kind: number, roles: Producers, fallback: "0", min: 0, max: 60_000, fractions: true, franz: millis(kgo.ProducerLinger)},
	"request.timeout.ms":     {kind: number, roles: Producers, fallback: "10000", min: 100, max: 900_000, franz: millis(kgo.ProduceRequestTimeout)},
	"delivery.timeout.ms":    {kind: number, roles: Producers, fallback: "30000", min: 1000, max: 3_600_000, franz: millis(kgo.RecordDeliveryTimeout)},
	"transaction.timeout.ms": {kind: number, franzOnly: true, fallback: "15000", min: 1000, max: 900_000, franz: millis(kgo.TransactionTimeout)},

	// Reading.
	"fetch.min.bytes":           {kind: number, roles: Consumers, fallback: "1", min: 1, max: 1 << 30, franz: bytes32(kgo.FetchMinBytes)},
	"fetch.max.bytes":           {kind: number, roles: Consumers, fallback: "52428800", min: 1024, max: 1 << 30, franz: bytes32(kgo.FetchMaxBytes)},
	"max.partition.fetch.bytes": {kind: number, roles: Consumers, fallback: "1048576", min: 1024, max: 1_000_000_000, franz: bytes32(kgo.FetchMaxPartitionBytes)},
	"fetch.wait.max.ms":         {kind: number, roles: Consumers, fallback: "500", min: 10, max: 300_000, franz: millis(kgo.FetchMaxWait)},
	"session.timeout.ms":        {kind: number, roles: Consumers, fallback: "6000", min: 100, max: 3_600_000, franz: millis(kgo.SessionTimeout)},
	"heartbeat.interval.ms":     {kind: number, roles: Consumers, fallback: strconv.FormatInt(maxHeartbeat.Milliseconds(), 10), min: 10, max: 3_600_000, franz: millis(kgo.HeartbeatInterval)},
	"max.poll.interval.ms":      {kind: number, roles: Consumers, fallback: "60000", min: 1000, max: 86_400_000, franz: millis(kgo.RebalanceTimeout)},
}

// aliases are librdkafka's other names, and Java's, of the properties.
var aliases = map[string]string{
	"metadata.broker.list":    "bootstrap.servers",
	"sasl.mechanism":          "sasl.mechanisms",
	"compression.type":        "compression.codec",
	"queue.buffering.max.ms":  "linger.ms",
	"message.timeout.ms":      "delivery.timeout.ms",
	"fetch.message.max.bytes": "max.partition.fetch.bytes",
	"fetch.max.wait.ms":       "fetch.wait.max.ms",
	"max.request.size":        "message.max.bytes",
	"request.required.acks":   "acks",
	"max.in.flight":           "max.in.flight.requests.per.connection",
}

// fixed are the properties that Evento's promises rest on. Saying the same is
// allowed, since files are copied from other programs; saying another is not.
var fixed = map[string]struct {
	same []string
	why  string
}{
	"acks":                                  {[]string{"all", "-1"}, "a command answered with 2xx must survive the loss of a broker, so every write waits for all replicas"},
	"enable.idempotence":                    {[]string{"true"}, "a retried write must not stand in the log twice or out of order"},
	"max.in.flight.requests.per.connection": {nil, "each client keeps what idempotence allows"},
	"partitioner":                           {[]string{"murmur2_random"}, "an aggregate's partition is computed as Java does and set on every record"},
	"isolation.level":                       {[]string{"read_committed"}, "each reader knows which it needs"},
	"enable.auto.commit":                    {[]string{"false"}, "positions move only beside what was done with the records"},
	"auto.offset.reset":                     {nil, "a lost position is rebuilt from the log, never guessed"},
	"group.id":                              {nil, "it follows from the topics' prefix"},
	"transactional.id":                      {nil, "each process makes its own"},
	"api.version.request":                   {[]string{"true"}, "Kafka 4.0 and later is the supported ground"},
}

func (p property) check(value string) error {
	switch p.kind {
	case number:
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return fmt.Errorf("%q is not a number", value)
		}
		if !(n >= p.min && n <= p.max) {
			return fmt.Errorf("%s is not between %s and %s", value, plainNumber(p.min), plainNumber(p.max))
		}
		if n != float64(int64(n)) && !p.fractions {
			return fmt.Errorf("%q is not a whole number", value)
		}
	case words:
		if !slices.Contains(p.words, value) {
			return fmt.Errorf("%q is none of %s", value, strings.Join(p.words, ", "))
		}
	case pathTo:
		if _, err := os.Stat(value); err != nil {
			return err
		}
	case servers:
		for one := range strings.SplitSeq(value, ",") {
			host, port, ok := cutLast(strings.TrimSpace(one), ':')
			if n, err := strconv.Atoi(port); !ok || host == "" || err != nil || n < 1 || n > 65535 {
				return fmt.Errorf("%q in %q is not host:port", one, value)
			}
		}
	case text, secret:
		if value == "" {
			return errors.New("it is empty")
		}
	}
	return nil
}

func cutLast(s string, sep byte) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

func plainNumber(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// number returns a numeric property, or its default.
func (s Settings) number(name string) float64 {
	n, _ := strconv.ParseFloat(s.Get(name), 64) // checked when it was set
	return n
}

// Duration returns a property in milliseconds as a duration; 0 when it has no value.
func (s Settings) Duration(name string) time.Duration {
	return time.Duration(s.number(name) * float64(time.Millisecond))
}

func millis[O kgo.Opt](opt func(time.Duration) O) func(string) kgo.Opt {
	return func(value string) kgo.Opt {
		n, _ := strconv.ParseFloat(value, 64) // checked when it was set
		return opt(time.Duration(n * float64(time.Millisecond)))
	}
}

func bytes32[O kgo.Opt](opt func(int32) O) func(string) kgo.Opt {
	return func(value string) kgo.Opt {
		n, _ := strconv.ParseFloat(value, 64) // checked when it was set
		return opt(int32(n))
	}
}

// franzBackoff waits from retry.backoff.ms doubling to retry.backoff.max.ms, with
// a fifth of jitter, as librdkafka does (KIP-580).
func (s Settings) franzBackoff() kgo.Opt {
	first, longest := s.Duration("retry.backoff.ms"), s.Duration("retry.backoff.max.ms")
	return kgo.RetryBackoffFn(func(fails int) time.Duration {
		wait := longest
		if doublings := max(fails-1, 0); doublings < 20 {
			wait = min(first<<doublings, longest)
		}
		return time.Duration(float64(wait) * (0.8 + 0.4*rand.Float64()))
	})
}

func franzCompression(value string) kgo.Opt {
	codec := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}[value]
	return kgo.ProducerBatchCompression(codec)
}

// franzSASL maps the properties of SASL.
func (s Settings) franzSASL() kgo.Opt {
	user := s.Get("sasl.username")
	mechanism := s.Get("sasl.mechanisms")
	if mechanism == "PLAIN" {
		return kgo.SASL(plain.Plain(func(context.Context) (plain.Auth, error) {
			pass, err := s.password()
			return plain.Auth{User: user, Pass: pass}, err
		}))
	}
	auth := func(context.Context) (scram.Auth, error) {
		pass, err := s.password()
		return scram.Auth{User: user, Pass: pass}, err
	}
	if mechanism == "SCRAM-SHA-256" {
		return kgo.SASL(scram.Sha256(auth))
	}
	return kgo.SASL(scram.Sha512(auth))
}

// password returns the SASL password, read anew where it stands in a file.
func (s Settings) password() (string, error) {
	path, ok := s.files["sasl.password"]
	if !ok {
		return s.values["sasl.password"], nil
	}
	secret, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("property %q: %w", "sasl.password", err)
	}
	return strings.TrimRight(string(secret), "\r\n"), nil
}

func (s Settings) tls() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if path := s.Get("ssl.ca.location"); path != "" {
		pem, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("property %q: %w", "ssl.ca.location", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("property %q: file %q holds no certificate in PEM form", "ssl.ca.location", path)
		}
	}
	if path := s.Get("ssl.certificate.location"); path != "" {
		pair, err := tls.LoadX509KeyPair(path, s.Get("ssl.key.location"))
		if err != nil {
			return nil, fmt.Errorf("properties %q and %q: %w", "ssl.certificate.location", "ssl.key.location", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	if s.Get("ssl.endpoint.identification.algorithm") == "none" {
		// As librdkafka: the chain is checked, the host's name is not.
		// crypto/tls can only leave out both, so the chain is checked here.
		config.InsecureSkipVerify = true
		config.VerifyConnection = func(state tls.ConnectionState) error {
			chain := x509.VerifyOptions{Roots: config.RootCAs, Intermediates: x509.NewCertPool()}
			for _, c := range state.PeerCertificates[1:] {
				chain.Intermediates.AddCert(c)
			}
			_, err := state.PeerCertificates[0].Verify(chain)
			return err
		}
	}
	return config, nil
}

// similar lists the properties that the user may have meant.
func similar(name string) string {
	type candidate struct {
		name string
		far  int
	}
	var near []candidate
	for known := range maps.Keys(properties) {
		if far := distance(name, known); far <= len(name)/2 {
			near = append(near, candidate{known, far})
		}
	}
	if len(near) == 0 {
		return "known are: " + strings.Join(slices.Sorted(maps.Keys(properties)), ", ")
	}
	slices.SortFunc(near, func(a, b candidate) int {
		if a.far != b.far {
			return a.far - b.far
		}
		return strings.Compare(a.name, b.name)
	})
	names := make([]string, 0, 5)
	for _, c := range near[:min(len(near), cap(names))] {
		names = append(names, strconv.Quote(c.name))
	}
	return "similar are: " + strings.Join(names, ", ")
}

// distance is the number of letters to insert, delete or change (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
