// Package schemas decodes the values of events: it asks a gateway once for each
// schema that a record names.
package schemas

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/twmb/avro"
)

// Registry holds the schemas that have been asked for. It is for one goroutine.
type Registry struct {
	gateway string
	client  http.Client
	known   map[string]*avro.Schema
}

// New returns a registry that asks the gateway at this URL.
func New(gateway string) *Registry {
	return &Registry{gateway: strings.TrimSuffix(gateway, "/"), client: http.Client{Timeout: 10 * time.Second}, known: map[string]*avro.Schema{}}
}

// Decode returns the value as maps, slices, strings and numbers. dataschema is
// the record's attribute, "urn:evento:avro:<full name>:<fingerprint>": the value
// can only be read with the very schema that wrote it.
func (r *Registry) Decode(ctx context.Context, dataschema string, data []byte) (any, error) {
	schema, err := r.schema(ctx, dataschema)
	if err != nil {
		return nil, err
	}
	var value any
	if _, err := schema.Decode(data, &value); err != nil {
		return nil, fmt.Errorf("value of %s: %w", dataschema, err)
	}
	return value, nil
}

func (r *Registry) schema(ctx context.Context, dataschema string) (*avro.Schema, error) {
	if s, ok := r.known[dataschema]; ok {
		return s, nil
	}
	rest, ok := strings.CutPrefix(dataschema, "urn:evento:avro:")
	name, fingerprint, found := strings.Cut(rest, ":")
	if !ok || !found {
		return nil, fmt.Errorf("dataschema %q is not one of Evento's", dataschema)
	}
	address := r.gateway + "/v1/schemas/" + url.PathEscape(name) + "/" + url.PathEscape(fingerprint)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	answer, err := r.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", address, answer.Status)
	}
	var document struct {
		Schema json.RawMessage `json:"schema"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&document); err != nil {
		return nil, fmt.Errorf("%s: %w", address, err)
	}
	s, err := avro.Parse(string(document.Schema))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", address, err)
	}
	r.known[dataschema] = s
	return s, nil
}
