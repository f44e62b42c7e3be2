package gateway

import (
	"encoding/json"
	"strings"

	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/runtime"
)

// CatalogueSchemas lets the HTTP face work with the catalogue.
type CatalogueSchemas struct{ *avro.Catalogue }

var _ Schemas = CatalogueSchemas{}

// Newest implements [Schemas].
func (c CatalogueSchemas) Newest(name runtime.TypeName) (SchemaType, bool) {
	t, ok := c.Type(name)
	if !ok {
		return SchemaType{}, false
	}
	return toSchemaType(t), true
}

// Version implements [Schemas].
func (c CatalogueSchemas) Version(d runtime.DataSchema) (SchemaType, bool) {
	t, ok := c.Catalogue.Version(d)
	if !ok {
		return SchemaType{}, false
	}
	return toSchemaType(t), true
}

// Versions implements [Schemas].
func (c CatalogueSchemas) Versions(name runtime.TypeName) []SchemaType {
	return toSchemaTypes(c.Catalogue.Versions(name))
}

// Types implements [Schemas]. The platform's own types come last.
func (c CatalogueSchemas) Types() []SchemaType {
	var out []SchemaType
	for _, name := range append(c.Aggregates(), runtime.TypeRetryNow.Namespace()) {
		a, ok := c.Aggregate(name)
		if !ok {
			continue
		}
		if a.Root != nil {
			out = append(out, toSchemaType(a.Root))
		}
		for _, list := range [][]*avro.Type{a.Entities, a.Commands, a.Events, a.Failures} {
			out = append(out, toSchemaTypes(list)...)
		}
	}
	return out
}

// Place implements [Schemas].
func (c CatalogueSchemas) Place(e runtime.Entity) (EntityPlace, bool) {
	t, err := c.EntityType(e)
	if err != nil {
		return EntityPlace{}, false
	}
	if t.Kind == avro.KindRoot {
		return EntityPlace{Aggregate: t.Aggregate}, true
	}
	return EntityPlace{Aggregate: t.Aggregate, Type: t.Name.Name()}, true
}

func toSchemaTypes(types []*avro.Type) []SchemaType {
	out := make([]SchemaType, len(types))
	for i, t := range types {
		out[i] = toSchemaType(t)
	}
	return out
}

func toSchemaType(t *avro.Type) SchemaType {
	entity := t.Target
	if entity == "" {
		entity = t.Entity
	}
	return SchemaType{
		Name: t.Name, Aggregate: t.Aggregate, Kind: t.Kind, Entity: entity.Name(), Fingerprint: t.Fingerprint, Text: t.Text,
	}
}

// avroField is what is read of a record's field.
type avroField struct {
	Name   string          `json:"name"`
	Type   json.RawMessage `json:"type"`
	Evento struct {
		ID bool `json:"id"`
	} `json:"evento"`
}

// Path implements [Schemas]: a child is found in the first field of its parent
// that is an array of its type, by the field of its type with "evento": {"id": true}.
func (c CatalogueSchemas) Path(e runtime.Entity) []EntityStep {
	at, err := c.EntityType(e.Aggregate().Root())
	if err != nil {
		return nil
	}
	parent, reference := at, string(e.Aggregate())
	_, children, _ := strings.Cut(string(e), "/")
	var path []EntityStep
	for segment := range strings.SplitSeq(children, "/") {
		reference += "/" + segment
		child, err := c.EntityType(runtime.Entity(reference))
		if err != nil {
			return nil
		}
		step := EntityStep{Field: arrayFieldOf(parent, child), IDField: idFieldOf(child)}
		if step.Field == "" || step.IDField == "" {
			return nil
		}
		path = append(path, step)
		parent = child
	}
	return path
}

// fieldsOf returns the fields of a type's record.
func fieldsOf(t *avro.Type) []avroField {
	var record struct {
		Fields []avroField `json:"fields"`
	}
	if json.Unmarshal([]byte(t.Text), &record) != nil {
		return nil // a registered schema is one; who asks shows nothing
	}
	return record.Fields
}

func arrayFieldOf(parent, child *avro.Type) string {
	for _, f := range fieldsOf(parent) {
		var array struct {
			Type  string          `json:"type"`
			Items json.RawMessage `json:"items"`
		}
		if json.Unmarshal(f.Type, &array) == nil && array.Type == "array" && avroName(array.Items, parent.Aggregate) == string(child.Name) {
			return f.Name
		}
	}
	return ""
}

// avroName returns the full name of a schema that is a reference or a named type.
func avroName(schema json.RawMessage, namespace string) string {
	var name string
	if json.Unmarshal(schema, &name) != nil {
		var named struct {
			Name      string `json:"name"`
			Namespace string `json:"namespace"`
		}
		if json.Unmarshal(schema, &named) != nil || named.Name == "" {
			return ""
		}
		name = named.Name
		if named.Namespace != "" {
			namespace = named.Namespace
		}
	}
	if strings.Contains(name, ".") {
		return name
	}
	return namespace + "." + name
}

func idFieldOf(t *avro.Type) string {
	for _, f := range fieldsOf(t) {
		if f.Evento.ID {
			return f.Name
		}
	}
	return ""
}
