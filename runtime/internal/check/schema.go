// Package check walks Avro bytes beside their schema before a decoder sees them.
//
// gogen-avro trusts its input: a few hostile bytes make it allocate without
// limit or recurse until the process dies, and no recover helps. What passes
// [Schema.Check] it decodes in memory proportional to the bytes.
package check

import (
	"encoding/json"
	"fmt"
	"strings"
)

type kind uint8

const (
	kindNull kind = iota
	kindBoolean
	kindInt
	kindLong
	kindFloat
	kindDouble
	kindBytes
	kindString
	kindFixed
	kindEnum
	kindArray
	kindMap
	kindUnion
	kindRecord
)

var primitives = map[string]kind{
	"null": kindNull, "boolean": kindBoolean, "int": kindInt, "long": kindLong, "float": kindFloat,
	"double": kindDouble, "bytes": kindBytes, "string": kindString,
}

// node is one place of a schema. A recursive schema is a cycle of nodes.
type node struct {
	kind     kind
	name     string   // of a record, enum or fixed, for errors
	size     int      // fixed: bytes; enum: symbols
	names    []string // record: of the fields
	children []*node  // record: fields; union: branches; array, map: the one element
	least    int      // the least number of bytes that a value takes
}

// Schema is a schema to check bytes against. It is safe for concurrent use.
type Schema struct{ root *node }

// Parse reads the JSON text of a schema. It does not replace a linter: it asks
// only for what checking needs.
func Parse(text string) (*Schema, error) {
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		return nil, fmt.Errorf("not a schema: %w", err)
	}
	p := parser{named: map[string]*node{}}
	root, err := p.node(v, "")
	if err != nil {
		return nil, err
	}
	for _, n := range p.records {
		if err := n.measure(map[*node]bool{}); err != nil {
			return nil, err
		}
	}
	return &Schema{root: root}, nil
}

type parser struct {
	named   map[string]*node
	records []*node
}

func (p *parser) node(v any, namespace string) (*node, error) {
	switch v := v.(type) {
	case string:
		if k, ok := primitives[v]; ok {
			return &node{kind: k, least: leastOf(k)}, nil
		}
		for _, name := range []string{fullName(v, namespace), v} {
			if n, ok := p.named[name]; ok {
				return n, nil
			}
		}
		return nil, fmt.Errorf("type %q is used but not defined before", v)
	case []any:
		n := &node{kind: kindUnion, least: 1}
		for _, e := range v {
			child, err := p.node(e, namespace)
			if err != nil {
				return nil, err
			}
			n.children = append(n.children, child)
		}
		return n, nil
	case map[string]any:
		return p.object(v, namespace)
	}
	return nil, fmt.Errorf("a %T is no schema", v)
}

func (p *parser) object(v map[string]any, namespace string) (*node, error) {
	name, _ := v["name"].(string)
	if s, ok := v["namespace"].(string); ok {
		namespace = s
	}
	name = fullName(name, namespace)
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		namespace = name[:i]
	}
	switch t := v["type"]; t {
	case "record", "error":
		n := &node{kind: kindRecord, name: name}
		p.named[name] = n // before the fields: they may name it
		p.records = append(p.records, n)
		fields, _ := v["fields"].([]any)
		for _, e := range fields {
			f, ok := e.(map[string]any)
			if !ok {
				return nil, fmt.Errorf("a field of %q is no object", name)
			}
			child, err := p.node(f["type"], namespace)
			if err != nil {
				return nil, fmt.Errorf("field %q of %q: %w", f["name"], name, err)
			}
			fieldName, _ := f["name"].(string)
			n.names = append(n.names, fieldName)
			n.children = append(n.children, child)
		}
		return n, nil
	case "enum":
		symbols, _ := v["symbols"].([]any)
		n := &node{kind: kindEnum, name: name, size: len(symbols), least: 1}
		p.named[name] = n
		return n, nil
	case "fixed":
		size, _ := v["size"].(float64)
		if size < 0 || size > 1<<20 {
			return nil, fmt.Errorf("fixed %q has a size of %v, outside 0 to %d", name, v["size"], 1<<20)
		}
		n := &node{kind: kindFixed, name: name, size: int(size), least: int(size)}
		p.named[name] = n
		return n, nil
	case "array", "map":
		k, of := kindArray, v["items"]
		if t == "map" {
			k, of = kindMap, v["values"]
		}
		child, err := p.node(of, namespace)
		if err != nil {
			return nil, err
		}
		return &node{kind: k, children: []*node{child}, least: 1}, nil
	default:
		return p.node(t, namespace) // {"type": "long", "logicalType": ...}, or one object in another
	}
}

// measure sets the least size of a record. A record that cannot end is refused.
func (n *node) measure(open map[*node]bool) error {
	if n.kind != kindRecord || n.least > 0 {
		return nil
	}
	if open[n] {
		return fmt.Errorf("record %q contains itself without a union, array or map between", n.name)
	}
	open[n] = true
	defer delete(open, n)
	least := 0
	for _, c := range n.children {
		if err := c.measure(open); err != nil {
			return err
		}
		least = min(least+c.least, 1<<20)
	}
	n.least = least
	return nil
}

func leastOf(k kind) int {
	switch k {
	case kindNull:
		return 0
	case kindFloat:
		return 4
	case kindDouble:
		return 8
	}
	return 1
}

func fullName(name, namespace string) string {
	if namespace == "" || strings.Contains(name, ".") {
		return name
	}
	return namespace + "." + name
}
