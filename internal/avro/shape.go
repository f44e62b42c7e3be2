package avro

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/evento-oss/evento/runtime"
	twmb "github.com/twmb/avro"
)

// form is what the bytes of a value look like.
type form uint8

const (
	formBoolean form = iota + 1
	formInt
	formLong
	formFloat
	formDouble
	formBytes
	formString
	formFixed
	formEnum
	formArray
	formMap
	formOptional // ["null", T], the only union there is
	formRecord
)

var primitives = map[string]form{
	"boolean": formBoolean, "int": formInt, "long": formLong, "float": formFloat,
	"double": formDouble, "bytes": formBytes, "string": formString,
}

// shape is a schema compiled for walking over values. Shapes of recursive
// schemas are cyclic. A shape is immutable after compile.
type shape struct {
	form      form
	name      string // full name of a record, enum or fixed; else the name of the Avro type
	aliases   []string
	kind      Kind // the evento.kind of a named type; "" without
	logical   string
	precision int
	scale     int
	limit     *big.Int // decimal: least absolute value that has too many digits

	fields   []field // record
	index    map[string]int
	elem     *shape // items, values, or the T of an optional
	symbols  []string
	ordinals map[string]int
	fallback int // enum: ordinal of its default, -1 for none
	size     int // fixed

	least  int  // fewest bytes that a value takes; at least 1, so that a count is bounded by the input
	varies bool // a value may have several valid encodings (blocks, order of map keys, sign bytes)
}

type field struct {
	name    string
	aliases []string
	shape   *shape
	preset  []byte // the encoded default; nil for none
}

// maxDepth bounds how deep values nest: records, arrays and maps together. It
// keeps recursive schemas from exhausting the stack of any reader.
const maxDepth = 256

// Limits of a schema.
const (
	maxFixed     = 1 << 20 // bytes of a fixed
	maxPrecision = 1000    // digits of a decimal
)

// parseShape parses the schema of one record type and compiles it. The text must be
// self-contained. The error says what the codec cannot work with; schemas that
// passed the lint have nothing of it.
func parseShape(text string) (*twmb.Schema, *shape, error) {
	parsed, err := twmb.Parse(text)
	if err != nil {
		return nil, nil, err
	}
	s, err := compileShape(parsed.Root())
	if err != nil {
		return nil, nil, err
	}
	return parsed, s, nil
}

// fingerprint returns the CRC-64-AVRO in the byte order of the single-object
// encoding, least significant first; the library gives the reverse.
func fingerprint(s *twmb.Schema) runtime.Fingerprint {
	sum := s.Fingerprint(twmb.NewRabin())
	slices.Reverse(sum)
	return runtime.Fingerprint(hex.EncodeToString(sum))
}

type compiler struct {
	named   map[string]*shape
	presets map[*shape][]any // raw defaults of a record's fields; noPreset for none
}

type noPreset struct{}

func compileShape(root *twmb.SchemaNode) (*shape, error) {
	c := &compiler{named: map[string]*shape{}, presets: map[*shape][]any{}}
	s, err := c.compile(root, "")
	if err != nil {
		return nil, err
	}
	if s.form != formRecord {
		return nil, fmt.Errorf("the schema is %s, not a record", s.name)
	}
	for _, n := range c.named {
		if err := n.measure(nil); err != nil {
			return nil, err
		}
	}
	s.measureAnonymous(map[*shape]bool{})
	for record, raw := range c.presets {
		for i, v := range raw {
			if v == (noPreset{}) {
				continue
			}
			f := &record.fields[i]
			if f.preset, err = c.encodePreset(nil, f.shape, v, 0); err != nil {
				return nil, fmt.Errorf("default of %s.%s: %w", record.name, f.name, err)
			}
		}
	}
	return s, nil
}

func fullName(n *twmb.SchemaNode) string {
	if n.Namespace == "" || strings.Contains(n.Name, ".") {
		return n.Name
	}
	return n.Namespace + "." + n.Name
}

func (c *compiler) compile(n *twmb.SchemaNode, namespace string) (*shape, error) {
	s := &shape{name: n.Type, logical: n.LogicalType, precision: n.Precision, scale: n.Scale, fallback: -1}
	var err error
	switch n.Type {
	case "array":
		s.form = formArray
		s.elem, err = c.compile(n.Items, namespace)
	case "map":
		s.form = formMap
		s.elem, err = c.compile(n.Values, namespace)
	case "union":
		if len(n.Branches) != 2 || n.Branches[0].Type != "null" || n.Branches[1].Type == "null" {
			return nil, errors.New(`a union that is not ["null", T]`)
		}
		s.form = formOptional
		s.elem, err = c.compile(&n.Branches[1], namespace)
	case "record", "enum", "fixed":
		return c.compileNamed(s, n)
	default:
		f, ok := primitives[n.Type]
		if !ok {
			return c.reference(n.Type, namespace)
		}
		s.form = f
	}
	if err != nil {
		return nil, err
	}
	return s, s.prepareDecimal()
}

func (c *compiler) reference(name, namespace string) (*shape, error) {
	if !strings.Contains(name, ".") && namespace != "" {
		if s, ok := c.named[namespace+"."+name]; ok {
			return s, nil
		}
	}
	if s, ok := c.named[name]; ok {
		return s, nil
	}
	return nil, fmt.Errorf("the type %q, which the codec does not have", name)
}

func (c *compiler) compileNamed(s *shape, n *twmb.SchemaNode) (*shape, error) {
	s.name = fullName(n)
	if _, dup := c.named[s.name]; dup {
		return nil, fmt.Errorf("a second definition of %q", s.name)
	}
	c.named[s.name] = s
	namespace := runtime.TypeName(s.name).Namespace()
	for _, alias := range n.Aliases {
		if !strings.Contains(alias, ".") && namespace != "" {
			alias = namespace + "." + alias
		}
		s.aliases = append(s.aliases, alias)
	}
	if property, ok := n.Props["evento"].(map[string]any); ok {
		kind, _ := property["kind"].(string)
		s.kind = Kind(kind)
	}
	switch n.Type {
	case "enum":
		s.form = formEnum
		s.symbols = n.Symbols
		s.ordinals = make(map[string]int, len(n.Symbols))
		for i, symbol := range n.Symbols {
			s.ordinals[symbol] = i
		}
		if n.HasEnumDefault {
			s.fallback = s.ordinals[n.EnumDefault]
		}
	case "fixed":
		if n.Size < 1 || n.Size > maxFixed {
			return nil, fmt.Errorf("the fixed %q of %d bytes", s.name, n.Size)
		}
		s.form = formFixed
		s.size = n.Size
		return s, s.prepareDecimal()
	case "record":
		if len(n.Fields) == 0 {
			return nil, fmt.Errorf("the record %q without fields", s.name)
		}
		s.form = formRecord
		s.fields = make([]field, len(n.Fields))
		s.index = make(map[string]int, len(n.Fields))
		raw := make([]any, len(n.Fields))
		for i := range n.Fields {
			f := &n.Fields[i]
			inner, err := c.compile(&f.Type, namespace)
			if err != nil {
				return nil, fmt.Errorf("field %s.%s: %w", s.name, f.Name, err)
			}
			s.fields[i] = field{name: f.Name, aliases: f.Aliases, shape: inner}
			s.index[f.Name] = i
			raw[i] = noPreset{}
			if f.HasDefault {
				raw[i] = f.Default
			}
		}
		c.presets[s] = raw
	}
	return s, nil
}

func (s *shape) prepareDecimal() error {
	if s.logical != "decimal" {
		return nil
	}
	if s.precision > maxPrecision {
		return fmt.Errorf("a decimal of %d digits; the limit is %d", s.precision, maxPrecision)
	}
	s.limit = new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(s.precision)), nil)
	return nil
}

// measure fills least and varies of a named shape. It fails on a record that
// contains itself with nothing in between, which no value can satisfy.
func (s *shape) measure(open []*shape) error {
	if s.least > 0 {
		return nil
	}
	if slices.Contains(open, s) {
		return fmt.Errorf("the record %q, which contains itself", s.name)
	}
	least := 1
	switch s.form {
	case formFloat:
		least = 4
	case formDouble:
		least = 8
	case formFixed:
		least = s.size
	case formBytes:
		if s.logical == "decimal" {
			least = 2
		}
	case formRecord:
		least = 0
		for _, f := range s.fields {
			if err := f.shape.measure(append(open, s)); err != nil {
				return err
			}
			// Definitions that each use the one before twice double with every
			// step; capped, so that the sum cannot overflow.
			least = min(least+f.shape.least, 1<<30)
		}
	}
	s.least = least
	s.varies = s.anyVaries(map[*shape]bool{})
	return nil
}

// measureAnonymous fills least and varies of what measure does not reach:
// elements of arrays, maps and optionals.
func (s *shape) measureAnonymous(seen map[*shape]bool) {
	if s == nil || seen[s] {
		return
	}
	seen[s] = true
	// It cannot fail: the named shapes are measured already.
	_ = s.measure(nil)
	s.elem.measureAnonymous(seen)
	for _, f := range s.fields {
		f.shape.measureAnonymous(seen)
	}
}

func (s *shape) anyVaries(seen map[*shape]bool) bool {
	if s == nil || seen[s] {
		return false
	}
	seen[s] = true
	if s.form == formArray || s.form == formMap || s.form == formBytes && s.logical == "decimal" {
		return true
	}
	if s.elem.anyVaries(seen) {
		return true
	}
	for _, f := range s.fields {
		if f.shape.anyVaries(seen) {
			return true
		}
	}
	return false
}
