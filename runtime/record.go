package runtime

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"sync"

	"github.com/actgardner/gogen-avro/v10/compiler"
	"github.com/actgardner/gogen-avro/v10/vm"
	"github.com/actgardner/gogen-avro/v10/vm/types"

	"github.com/evento-oss/evento/runtime/internal/check"
)

// Record is a pointer to a struct that gogen-avro generated for a record type.
type Record interface {
	types.Field
	Serialize(io.Writer) error
	Schema() string
	SchemaName() string
	AvroCRC64Fingerprint() []byte
}

// Codec reads and writes one record type in its own schema. It is safe for
// concurrent use.
//
// gogen-avro's own DeserializeX compiles the schema at each call, 60 times the
// cost of reading a record, and trusts its bytes. A Codec compiles once and
// checks first.
type Codec struct {
	name        TypeName
	fingerprint Fingerprint
	schema      DataSchema
	text        string
	new         func() Record

	compile func() (*compiled, error)
}

type compiled struct {
	program *vm.Program
	checker *check.Schema
}

// NewCodec returns the codec of the record type that new makes.
func NewCodec(new func() Record) *Codec {
	r := new()
	c := &Codec{
		name:        TypeName(r.SchemaName()),
		fingerprint: Fingerprint(hex.EncodeToString(r.AvroCRC64Fingerprint())),
		text:        r.Schema(),
		new:         new,
	}
	c.schema = NewDataSchema(c.name, c.fingerprint)
	c.compile = sync.OnceValues(func() (*compiled, error) {
		checker, err := check.Parse(c.text)
		if err != nil {
			return nil, fmt.Errorf("schema of %q: %w", c.name, err)
		}
		program, err := compiler.CompileSchemaBytes([]byte(c.text), []byte(c.text))
		if err != nil {
			return nil, fmt.Errorf("schema of %q: %w", c.name, err)
		}
		return &compiled{program: withoutHints(program), checker: checker}, nil
	})
	return c
}

// withoutHints makes gogen-avro's HintSize instructions jump to the next one.
// They allocate for a count that is not yet known to be true, and are wrong for
// a field that the reader's schema does not have.
func withoutHints(p *vm.Program) *vm.Program {
	for i, in := range p.Instructions {
		if in.Op == vm.HintSize {
			p.Instructions[i] = vm.Instruction{Op: vm.Jump, Operand: i + 1}
		}
	}
	return p
}

// Name returns the full name of the record type.
func (c *Codec) Name() TypeName { return c.name }

// Schema names the schema that the codec reads and writes.
func (c *Codec) Schema() DataSchema { return c.schema }

// Text returns the schema's text and fingerprint.
func (c *Codec) Text() SchemaText { return SchemaText{Fingerprint: c.fingerprint, Schema: c.text} }

// Decode reads one value. Data may be hostile: it is checked against the schema
// before it is decoded, and the error says what and where.
func (c *Codec) Decode(data []byte) (Record, error) {
	r := c.new()
	if err := c.decodeInto(data, r); err != nil {
		return nil, err
	}
	return r, nil
}

func (c *Codec) decodeInto(data []byte, r Record) error {
	program, err := c.compile()
	if err != nil {
		return err
	}
	if err := program.checker.Check(data); err != nil {
		return fmt.Errorf("%q: %w", c.name, err)
	}
	if err := vm.Eval(bytes.NewReader(data), program.program, r); err != nil {
		return fmt.Errorf("%q: %w", c.name, err)
	}
	return nil
}

// Encode writes one value. It fails on what the schema does not allow: a union
// without a branch, an enum without such a symbol, a text that is not UTF-8.
func (c *Codec) Encode(r Record) ([]byte, error) {
	program, err := c.compile()
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	if err := r.Serialize(&buf); err != nil {
		return nil, fmt.Errorf("%q: %w", c.name, err)
	}
	if err := program.checker.Check(buf.Bytes()); err != nil {
		return nil, fmt.Errorf("%q: %w", c.name, err)
	}
	return buf.Bytes(), nil
}
