package avro

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/evento-oss/evento/runtime"
	twmb "github.com/twmb/avro"
)

// Registered is one record of the schemas topic: a version of a type. Text
// decides; Aggregate, Kind, Prefix and the like repeat what stands in it, for
// people and tools that read the topic.
//
// Key: "<name>:<fingerprint>". Value: this struct as JSON. The topic is
// compacted, so a registration of the same fingerprint with another text
// (defaults added, another "fails") replaces the one before.
type Registered struct {
	Name         runtime.TypeName    `json:"name"`
	Fingerprint  runtime.Fingerprint `json:"fingerprint"`
	Aggregate    string              `json:"aggregate"`
	Kind         Kind                `json:"kind"`
	Version      int                 `json:"version"` // counts the registrations of the name, from 1
	BackwardOnly bool                `json:"backward_only,omitempty"`
	Time         time.Time           `json:"time"` // when it was registered
	Text         string              `json:"text"` // self-contained Avro schema
}

// Register returns the record that makes t known, to be written to the schemas topic.
func (t *Type) Register(now time.Time) Registered {
	return Registered{
		Name: t.Name, Fingerprint: t.Fingerprint, Aggregate: t.Aggregate, Kind: t.Kind,
		Version: t.Version, BackwardOnly: t.BackwardOnly, Time: now.UTC().Truncate(time.Millisecond), Text: t.Text,
	}
}

// Key returns the key of the record in the schemas topic.
func (r Registered) Key() string { return string(r.Name) + ":" + string(r.Fingerprint) }

// Encode returns the value of the record in the schemas topic.
func (r Registered) Encode() ([]byte, error) { return json.Marshal(r) }

// DecodeRegistered reads a record of the schemas topic. Fields that it does not
// know are ignored: a newer gateway may have written them.
func DecodeRegistered(key string, value []byte) (Registered, error) {
	var r Registered
	if err := json.Unmarshal(value, &r); err != nil {
		return Registered{}, fmt.Errorf("schema record %q: %w", key, err)
	}
	if r.Key() != key {
		return Registered{}, fmt.Errorf("schema record %q is about %q", key, r.Key())
	}
	return r, nil
}

// version is a registered type with what is compiled from it.
type version struct {
	*Type
	parsed *twmb.Schema
}

// newVersion parses the text of a record and holds the record against it.
func newVersion(r Registered) (*version, error) {
	wrap := func(err error) error { return fmt.Errorf("schema %s version %d: %w", r.Name, r.Version, err) }
	t, parsed, err := parseType(r.Text)
	if err != nil {
		return nil, wrap(err)
	}
	switch {
	case t.Name != r.Name:
		return nil, wrap(fmt.Errorf("its text is that of %s", t.Name))
	case t.Fingerprint != r.Fingerprint:
		return nil, wrap(fmt.Errorf("the fingerprint of its text is %s, not %s", t.Fingerprint, r.Fingerprint))
	case t.Kind == KindValue:
		return nil, wrap(errors.New("it is of kind value, which is no record of its own"))
	case r.Version < 1:
		return nil, wrap(errors.New("versions begin at 1"))
	}
	t.Version, t.BackwardOnly = r.Version, r.BackwardOnly
	return &version{Type: t, parsed: parsed}, nil
}

// parseType reads a self-contained schema with its "evento" property.
func parseType(text string) (*Type, *twmb.Schema, error) {
	parsed, compiled, err := parseShape(text)
	if err != nil {
		return nil, nil, err
	}
	root := parsed.Root()
	t := &Type{Name: runtime.TypeName(compiled.name), Text: text, Fingerprint: fingerprint(parsed), Doc: root.Doc, shape: compiled}
	t.Aggregate = t.Name.Namespace()
	if err := t.readProperty(root.Props["evento"]); err != nil {
		return nil, nil, err
	}
	return t, parsed, nil
}

// readProperty reads the "evento" property of a type. Its form was checked by
// the lint when the type was registered.
func (t *Type) readProperty(property any) error {
	p, ok := property.(map[string]any)
	if !ok {
		return errors.New(`it has no property "evento"`)
	}
	text := func(key string) string { s, _ := p[key].(string); return s }
	list := func(key string) []runtime.TypeName {
		items, _ := p[key].([]any)
		var names []runtime.TypeName
		for _, item := range items {
			if s, ok := item.(string); ok {
				names = append(names, t.qualify(s))
			}
		}
		return names
	}
	t.Kind = Kind(text("kind"))
	switch t.Kind {
	case KindRoot, KindEntity, KindValue, KindEvent, KindFailure, KindCommand:
	default:
		return fmt.Errorf("its kind %q is not known", t.Kind)
	}
	t.Prefix = text("prefix")
	t.Emits, t.Fails = list("emits"), list("fails")
	t.Creates, _ = p["creates"].(bool)
	t.Rebuild, _ = p["rebuild"].(bool)
	// The root may be named or left out; it is always left out here.
	root := runtime.TypeName(t.Aggregate + "." + t.Aggregate)
	if s := text("target"); s != "" && t.qualify(s) != root {
		t.Target = t.qualify(s)
	}
	if s := text("entity"); s != "" && t.qualify(s) != root {
		t.Entity = t.qualify(s)
	}
	return nil
}

// qualify gives a name its namespace, which the file may leave out.
func (t *Type) qualify(name string) runtime.TypeName {
	if strings.Contains(name, ".") {
		return runtime.TypeName(name)
	}
	return runtime.TypeName(t.Aggregate + "." + name)
}
