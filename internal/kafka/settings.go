package kafka

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	ck "github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/twmb/franz-go/pkg/kgo"
)

// ErrSettings is returned, wrapped with every problem found, for settings that
// cannot be used.
var ErrSettings = errors.New("kafka settings")

// Settings say how Kafka is reached, in librdkafka's property names. They are
// checked when they are made, so that both clients can be configured from them
// without another surprise. The zero value is not usable. A Settings is
// immutable and safe for concurrent use; printed, it hides secrets.
type Settings struct {
	values map[string]string // by canonical name; files of secrets already read
	files  map[string]string // secrets that came from a file: by canonical name
	reach  *reach            // of the franz-go clients
}

// NewSettings checks properties by name. All problems are reported at once; the
// error wraps [ErrSettings] and never holds a secret's value. The value
// "file:<path>" of a secret names a file to read it from.
func NewSettings(properties map[string]string) (Settings, error) {
	s := Settings{values: map[string]string{}, files: map[string]string{}, reach: newReach()}
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		if err := s.set(name, strings.TrimSpace(properties[name])); err != nil {
			problems = append(problems, err)
		}
	}
	if len(problems) == 0 {
		problems = s.relations()
	}
	if len(problems) > 0 {
		return Settings{}, fmt.Errorf("%w: %w", ErrSettings, errors.Join(problems...))
	}
	return s, nil
}

// ParseSettings reads lines of the form "property=value". Empty lines and those
// that begin with '#' are skipped; a property that occurs twice is an error.
// See [NewSettings] for the rest.
func ParseSettings(r io.Reader) (Settings, error) {
	return parseSettings(r, "")
}

// ReadSettings reads a settings file (see [ParseSettings]). Relative paths of
// secrets in it are relative to its folder.
func ReadSettings(path string) (Settings, error) {
	f, err := os.Open(path)
	if err != nil {
		return Settings{}, fmt.Errorf("%w: %w", ErrSettings, err)
	}
	defer f.Close()
	s, err := parseSettings(f, filepath.Dir(path))
	if err != nil {
		return Settings{}, fmt.Errorf("file %q: %w", path, err)
	}
	return s, nil
}

func parseSettings(r io.Reader, dir string) (Settings, error) {
	properties := map[string]string{}
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if !ok || name == "" {
			// The line itself is not shown: it may be a secret that lost its name.
			return Settings{}, fmt.Errorf("%w: line %d is not property=value", ErrSettings, n)
		}
		if _, twice := properties[name]; twice {
			return Settings{}, fmt.Errorf("%w: line %d: property %q stands there twice", ErrSettings, n, name)
		}
		if path, ok := strings.CutPrefix(value, filePrefix); ok && dir != "" && !filepath.IsAbs(path) {
			value = filePrefix + filepath.Join(dir, path)
		}
		properties[name] = value
	}
	if err := lines.Err(); err != nil {
		return Settings{}, fmt.Errorf("%w: %w", ErrSettings, err)
	}
	return NewSettings(properties)
}

const filePrefix = "file:"

// set checks one property and takes it over under its canonical name.
func (s *Settings) set(name, value string) error {
	canonical := name
	if to, ok := aliases[name]; ok {
		canonical = to
	}
	if reason, ok := fixed[canonical]; ok {
		if slices.Contains(reason.same, value) {
			return nil
		}
		return fmt.Errorf("property %q cannot be set to %q: %s", name, value, reason.why)
	}
	p, ok := properties[canonical]
	if p.kind == servers {
		value = strings.ReplaceAll(value, " ", "")
	}
	if !ok {
		return fmt.Errorf("property %q is not known to Evento (it must mean the same to both of its Kafka clients); %s", name, similar(name))
	}
	if _, twice := s.values[canonical]; twice {
		return fmt.Errorf("property %q is set twice, once as %q", canonical, name)
	}
	if p.kind == secret {
		if path, isFile := strings.CutPrefix(value, filePrefix); isFile {
			text, err := os.ReadFile(path)
			if err != nil {
				return fmt.Errorf("property %q: %w", name, err)
			}
			s.files[canonical], value = path, strings.TrimRight(string(text), "\r\n")
		}
		if value == "" {
			return fmt.Errorf("property %q is empty", name)
		}
	} else if err := p.check(value); err != nil {
		return fmt.Errorf("property %q: %w", name, err)
	}
	s.values[canonical] = value
	return nil
}

// relations reports what is wrong with the properties taken together.
func (s *Settings) relations() (problems []error) {
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if s.values["bootstrap.servers"] == "" {
		bad(`property "bootstrap.servers" is missing: write host:port of one broker or more`)
	}
	protocol := s.Get("security.protocol")
	for _, name := range slices.Sorted(maps.Keys(s.values)) {
		if strings.HasPrefix(name, "sasl.") && !strings.HasPrefix(protocol, "sasl_") {
			bad(`property %q has no meaning with security.protocol %q; set it to "sasl_ssl"`, name, protocol)
		}
		if strings.HasPrefix(name, "ssl.") && !strings.HasSuffix(protocol, "ssl") {
			bad(`property %q has no meaning with security.protocol %q; set it to "ssl" or "sasl_ssl"`, name, protocol)
		}
	}
	if strings.HasPrefix(protocol, "sasl_") {
		for _, name := range []string{"sasl.mechanisms", "sasl.username", "sasl.password"} {
			if s.values[name] == "" {
				bad("property %q is missing: security.protocol %q needs it", name, protocol)
			}
		}
	}
	if (s.values["ssl.certificate.location"] == "") != (s.values["ssl.key.location"] == "") {
		bad(`properties "ssl.certificate.location" and "ssl.key.location" come together: one of them is missing`)
	}
	for _, pair := range [][2]string{
		{"heartbeat.interval.ms", "session.timeout.ms"},
		{"session.timeout.ms", "max.poll.interval.ms"},
		{"fetch.min.bytes", "fetch.max.bytes"},
		{"message.max.bytes", "fetch.max.bytes"},
		{"retry.backoff.ms", "retry.backoff.max.ms"},
		{"linger.ms", "delivery.timeout.ms"},
		{"fetch.wait.max.ms", "socket.timeout.ms"}, // other requests wait behind a fetch
	} {
		if less, more := s.number(pair[0]), s.number(pair[1]); less > more {
			bad("property %q (%v) is greater than %q (%v)", pair[0], less, pair[1], more)
		}
	}
	// librdkafka wants room for a response of fetch.max.bytes and its envelope.
	if fetch, receive := s.number("fetch.max.bytes"), s.number("receive.message.max.bytes"); fetch+512 > receive {
		bad(`property "fetch.max.bytes" (%v) must be at least 512 below "receive.message.max.bytes" (%v)`, fetch, receive)
	}
	return problems
}

// Get returns the value of a property, its default when it is not set, and ""
// when there is none.
func (s Settings) Get(name string) string {
	if to, ok := aliases[name]; ok {
		name = to
	}
	if value, ok := s.values[name]; ok {
		return value
	}
	return properties[name].fallback
}

// With returns the settings with one property changed.
func (s Settings) With(name, value string) (Settings, error) {
	all := make(map[string]string, len(s.values)+1) // also for the zero value
	maps.Copy(all, s.values)
	for name, path := range s.files {
		all[name] = filePrefix + path
	}
	if to, ok := aliases[name]; ok {
		name = to
	}
	all[name] = value
	changed, err := NewSettings(all)
	if err == nil && s.reach != nil {
		changed.reach = s.reach // the brokers are the same ones
	}
	return changed, err
}

// String lists what is set, one property a line, sorted, secrets hidden.
func (s Settings) String() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(s.values)) {
		value := s.values[name]
		if properties[name].kind == secret {
			value = "(secret)"
		}
		fmt.Fprintf(&b, "%s=%s\n", name, value)
	}
	return b.String()
}

// GoString keeps secrets out of %#v.
func (s Settings) GoString() string { return "kafka.Settings{" + s.String() + "}" }

// LogValue keeps secrets out of logs.
func (s Settings) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Role says what a confluent-kafka-go client is made for. Each kind of client
// is given the properties that it understands: librdkafka warns about others.
type Role uint8

// The roles of clients.
const (
	Admins    Role = 1 << iota // describes and creates
	Producers                  // writes
	Consumers                  // reads
)

// Confluent returns the settings for a confluent-kafka-go client of this role.
// The overrides, which may be properties that the user cannot set, win.
func (s Settings) Confluent(role Role, overrides ck.ConfigMap) (*ck.ConfigMap, error) {
	if s.values == nil {
		return nil, fmt.Errorf("%w: they are empty", ErrSettings)
	}
	config := ck.ConfigMap{
		"enable.metrics.push": false, // KIP-714 is for those who run the brokers; Evento has metrics of its own
	}
	for name, p := range properties {
		value, set := s.values[name]
		if !set {
			value = p.fallback
		}
		if value != "" && (p.roles == 0 || p.roles&role != 0) && !p.franzOnly {
			config[cmp.Or(p.confluent, name)] = value
		}
	}
	maps.Copy(config, overrides)
	return &config, nil
}

// metadataMinAge bounds how soon a client looks again who leads a partition.
// The library's 5 s would add as much to each failover of a broker.
const metadataMinAge = 250 * time.Millisecond

// Franz returns the settings as options of a franz-go client. Certificates are
// read now; secrets that came from a file are read again for each connection,
// so that they can be rotated.
//
// The clients tell each other of brokers that have fallen silent, and do not wait
// for them; the logger hears of such brokers.
func (s Settings) Franz(log *slog.Logger) ([]kgo.Opt, error) {
	if s.values == nil {
		return nil, fmt.Errorf("%w: they are empty", ErrSettings)
	}
	var opts []kgo.Opt
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		p := properties[name]
		value := s.Get(name)
		if value != "" && p.franz != nil {
			opts = append(opts, p.franz(value))
		}
	}
	// As enable.metrics.push in Confluent. It is more than noise: the connection that
	// the library opens for it is opened under the same lock as those for records,
	// so while a broker is silent it holds up requests on connections that are there.
	opts = append(opts, s.franzBackoff(), kgo.DisableClientMetrics(), kgo.MetadataMinAge(metadataMinAge))
	dial := &dialer{reach: s.reach, limit: s.Duration("socket.connection.setup.timeout.ms"), log: log}
	protocol := s.Get("security.protocol")
	if strings.HasSuffix(protocol, "ssl") {
		var err error
		if dial.tls, err = s.tls(); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrSettings, err)
		}
	}
	if strings.HasPrefix(protocol, "sasl_") {
		opts = append(opts, s.franzSASL())
	}
	return append(opts, kgo.Dialer(dial.DialContext)), nil
}
