package runtime

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// TypeName is the full Avro name of a record type: the aggregate's namespace
// and the type, "CheckingAccount.WithdrawCash".
type TypeName string

// Namespace returns the part before the last dot: the aggregate's name. It is
// empty for a name without a dot.
func (t TypeName) Namespace() string {
	if i := strings.LastIndexByte(string(t), '.'); i >= 0 {
		return string(t[:i])
	}
	return ""
}

// Name returns the part after the last dot.
func (t TypeName) Name() string { return string(t[strings.LastIndexByte(string(t), '.')+1:]) }

// Fingerprint is the CRC-64-AVRO of a schema's parsing canonical form: 16
// lower-case hex digits of its 8 bytes in the order of Avro's single-object
// encoding (least significant byte first).
type Fingerprint string

// DataSchema names the schema that wrote a record's body, as the CloudEvents
// attribute dataschema holds it: "urn:evento:avro:<full name>:<fingerprint>".
type DataSchema string

const dataSchemaPrefix = "urn:evento:avro:"

// NewDataSchema joins a type's name and a fingerprint.
func NewDataSchema(t TypeName, f Fingerprint) DataSchema {
	return DataSchema(dataSchemaPrefix + string(t) + ":" + string(f))
}

// Parse returns the two parts of the URN, or an error that says what is wrong with it.
func (d DataSchema) Parse() (TypeName, Fingerprint, error) {
	rest, ok := strings.CutPrefix(string(d), dataSchemaPrefix)
	if !ok {
		return "", "", fmt.Errorf("dataschema %q does not begin with %q", string(d), dataSchemaPrefix)
	}
	name, fp, ok := strings.Cut(rest, ":")
	if !ok || name == "" || len(fp) != 16 || strings.Trim(fp, "0123456789abcdef") != "" {
		return "", "", fmt.Errorf("dataschema %q is not %s<full name>:<16 hex digits>", string(d), dataSchemaPrefix)
	}
	return TypeName(name), Fingerprint(fp), nil
}

// Coordinates say where a record stands in Kafka. The zero value means nowhere.
type Coordinates struct {
	Topic     string
	Partition int32
	Offset    int64
}

// ErrCoordinates is returned, wrapped with the reason, for a text that is no coordinates.
var ErrCoordinates = errors.New("not coordinates")

// String writes c as "topic/partition/offset", and the zero value as "".
func (c Coordinates) String() string {
	if c == (Coordinates{}) {
		return ""
	}
	return c.Topic + "/" + strconv.FormatInt(int64(c.Partition), 10) + "/" + strconv.FormatInt(c.Offset, 10)
}

// ParseCoordinates reads what [Coordinates.String] writes. The error wraps [ErrCoordinates].
func ParseCoordinates(s string) (Coordinates, error) {
	parts := strings.Split(s, "/")
	if len(parts) != 3 || parts[0] == "" {
		return Coordinates{}, fmt.Errorf("%w: %q is not topic/partition/offset", ErrCoordinates, s)
	}
	partition, err := strconv.ParseInt(parts[1], 10, 32)
	if err != nil || partition < 0 {
		return Coordinates{}, fmt.Errorf("%w: the partition in %q is not a number from 0", ErrCoordinates, s)
	}
	offset, err := strconv.ParseInt(parts[2], 10, 64)
	if err != nil || offset < 0 {
		return Coordinates{}, fmt.Errorf("%w: the offset in %q is not a number from 0", ErrCoordinates, s)
	}
	return Coordinates{Topic: parts[0], Partition: int32(partition), Offset: offset}, nil
}
