package triggers

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
	sigsjson "sigs.k8s.io/json"
)

// Limits of a file of Triggers, far above what is sensible: what is beyond was
// not written as one.
const (
	maxFileBytes = 1 << 20 // also the limit of a Kubernetes ConfigMap
	maxDocuments = 1000
)

// document is one YAML document of a file, decoded to JSON.
type document struct {
	origin     Origin
	APIVersion string
	Kind       string
	Name       string // namespace/name, or name alone, for people
	json       []byte
}

// readDocuments splits a file. Empty documents are left out, but counted. It
// refuses what would mean something else to kubectl, which reads YAML 1.1.
func readDocuments(file string, text []byte) ([]document, []Problem) {
	p := &problems{at: Problem{File: file}}
	if len(text) > maxFileBytes {
		p.add("", fmt.Sprintf("the file has %d bytes, more than the limit of %d", len(text), maxFileBytes), "split it")
		return nil, p.list
	}
	var documents []document
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	for n := 1; ; n++ {
		p.at = Problem{File: file, Document: n}
		var node yaml.Node
		err := decoder.Decode(&node)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			p.add("", yamlReason(err), "")
			return nil, p.list // the decoder cannot find the next document
		}
		if n > maxDocuments {
			p.add("", fmt.Sprintf("there are more documents than the limit of %d", maxDocuments), "split the file")
			return nil, p.list
		}
		if len(node.Content) == 0 || node.Content[0].Tag == "!!null" {
			continue
		}
		root := node.Content[0]
		p.at.Line = root.Line
		before := len(p.list)
		refuseOldBooleans(root, p)
		if len(p.list) == before {
			if d, ok := newDocument(root, Origin{File: file, Document: n, Line: root.Line}, p); ok {
				documents = append(documents, d)
			}
		}
	}
	if len(documents) == 0 && len(p.list) == 0 {
		p.at = Problem{File: file}
		p.add("", "there is no document in it", "write a Trigger, or delete the file") // it may also be half written
	}
	return documents, p.list
}

func newDocument(root *yaml.Node, origin Origin, p *problems) (document, bool) {
	d := document{origin: origin}
	if root.Kind != yaml.MappingNode {
		p.add("", "it is not an object", "write apiVersion, kind, metadata and spec")
		return d, false
	}
	var value any
	err := root.Decode(&value)
	if err == nil {
		d.json, err = json.Marshal(value)
	}
	if err != nil {
		p.add("", yamlReason(err), "")
		return d, false
	}
	var head struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Metadata   struct {
			Namespace string `json:"namespace"`
			Name      string `json:"name"`
		} `json:"metadata"`
	}
	if err := sigsjson.UnmarshalCaseSensitivePreserveInts(d.json, &head); err != nil {
		p.add("", jsonReason(err), "")
		return d, false
	}
	d.APIVersion, d.Kind, d.Name = head.APIVersion, head.Kind, head.Metadata.Name
	if head.Metadata.Namespace != "" {
		d.Name = head.Metadata.Namespace + "/" + d.Name
	}
	return d, true
}

// decode reads the document strictly: unknown, duplicate or wrongly spelt
// fields are problems.
func (d *document) decode(into any) []Problem {
	p := &problems{at: Problem{File: d.origin.File, Document: d.origin.Document, Line: d.origin.Line, Object: d.object()}}
	strict, err := sigsjson.UnmarshalStrict(d.json, into)
	if err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) {
			p.add(wrong.Field, jsonReason(err), "")
		} else {
			p.add("", jsonReason(err), "")
		}
	}
	for _, err := range strict {
		text := err.Error()
		if field, ok := strings.CutPrefix(text, "unknown field "); ok {
			p.add(strings.Trim(field, `"`), "unknown field", "check its spelling and where it stands")
		} else {
			p.add("", text, "")
		}
	}
	return p.list
}

// object names the document for people.
func (d *document) object() string { return strings.TrimSpace(d.Kind + " " + d.Name) }

// refuseOldBooleans refuses words that YAML 1.1 takes for booleans, and so
// would kubectl: {exact: {y: "1"}} filters by an attribute named "true" there.
func refuseOldBooleans(node *yaml.Node, p *problems) {
	if node.Kind == yaml.ScalarNode && node.Style == 0 && node.Tag == "!!str" {
		switch strings.ToLower(node.Value) {
		case "y", "n", "yes", "no", "on", "off":
			line := p.at.Line
			p.at.Line = node.Line
			p.add("", fmt.Sprintf("kubectl reads the word %s as a boolean", node.Value), fmt.Sprintf("write %q", node.Value))
			p.at.Line = line
		}
	}
	for _, child := range node.Content { // not through aliases: they end, and are seen where they are defined
		refuseOldBooleans(child, p)
	}
}

// yamlReason drops the library's name from its errors.
func yamlReason(err error) string {
	text := strings.Join(strings.Fields(err.Error()), " ")
	text = strings.TrimPrefix(text, "yaml: ")
	return "not valid YAML: " + strings.TrimPrefix(text, "unmarshal errors: ")
}

// jsonReason says what is wrong with a value in the words of YAML.
func jsonReason(err error) string {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		if wrong.Type != nil && wrong.Type.Kind().String() == "string" {
			return fmt.Sprintf("a %s stands where text is expected: quote it", wrong.Value)
		}
		return fmt.Sprintf("a %s stands where a %s is expected", wrong.Value, wrong.Type)
	}
	return strings.TrimPrefix(err.Error(), "json: ")
}
