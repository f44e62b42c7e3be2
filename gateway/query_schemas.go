package gateway

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/runtime"
)

// schemaJSON shows one version of a registered type.
type schemaJSON struct {
	Name        string          `json:"name"`
	Aggregate   string          `json:"aggregate"`
	Kind        string          `json:"kind"`
	Entity      string          `json:"entity,omitempty"` // type that it targets or belongs to; absent for the root
	Fingerprint string          `json:"fingerprint"`
	DataSchema  string          `json:"dataschema"`
	Schema      json.RawMessage `json:"schema,omitempty"`   // the Avro schema
	Versions    []string        `json:"versions,omitempty"` // fingerprints, oldest first
}

func toSchemaJSON(t SchemaType) schemaJSON {
	return schemaJSON{
		Name: string(t.Name), Aggregate: t.Aggregate, Kind: string(t.Kind), Entity: t.Entity,
		Fingerprint: string(t.Fingerprint), DataSchema: string(runtime.NewDataSchema(t.Name, t.Fingerprint)),
	}
}

func toSchemaList(types []SchemaType) []schemaJSON {
	list := make([]schemaJSON, len(types))
	for i, t := range types {
		list[i] = toSchemaJSON(t)
	}
	return list
}

func (s *HTTPServer) getSchemas(w http.ResponseWriter, _ *http.Request, _ *AuthPrincipal) error {
	return writeJSON(w, http.StatusOK, map[string]any{"types": toSchemaList(s.need.Schemas.Types())})
}

// getSchema answers one type: its newest version, or the one that is named.
func (s *HTTPServer) getSchema(w http.ResponseWriter, r *http.Request, _ *AuthPrincipal) error {
	name := runtime.TypeName(r.PathValue("name"))
	t, ok := s.need.Schemas.Newest(name)
	if fp := r.PathValue("fingerprint"); fp != "" {
		t, ok = s.need.Schemas.Version(runtime.NewDataSchema(name, runtime.Fingerprint(fp)))
	}
	if !ok {
		return fail(problemNoSchema, "%q %s is not registered; GET /v1/schemas lists what is", name, r.PathValue("fingerprint"))
	}
	out := toSchemaJSON(t)
	out.Schema = json.RawMessage(t.Text)
	for _, v := range s.need.Schemas.Versions(name) {
		out.Versions = append(out.Versions, string(v.Fingerprint))
	}
	return writeJSON(w, http.StatusOK, out)
}

// postSchema registers the .avsc file of an aggregate, or checks it.
func (s *HTTPServer) postSchema(w http.ResponseWriter, r *http.Request, _ *AuthPrincipal) error {
	if s.need.Registrar == nil {
		return fail(problemUnavailable, "this gateway registers no schemas")
	}
	dryRun := false
	switch text := r.URL.Query().Get("dry-run"); text {
	case "", "false":
	case "true":
		dryRun = true
	default:
		return fail(problemParameter, "dry-run is %q; it is true or false", text).field("dry-run")
	}
	media, err := intakeMedia(r.Header)
	if err != nil {
		return err
	}
	switch media {
	case "application/json", "application/vnd.apache.avro+json":
	default:
		return fail(problemMediaType, "content-type is %q; a schema file is taken as application/json", media).field("content-type")
	}
	body, release, err := s.bodies.read(w, r)
	if err != nil {
		return err
	}
	defer release()
	added, err := s.need.Registrar.Register(r.Context(), body, dryRun)
	var lint *avro.LintError
	var compat *avro.CompatError
	switch {
	case errors.As(err, &lint):
		return schemaRefused(lint.Problems)
	case errors.As(err, &compat):
		return schemaRefused(compat.Problems)
	case errors.Is(err, ErrKafkaAway), errors.Is(err, ErrUncertain):
		return fail(problemUnavailable, "the schema could not be written; registering the same file again is safe").because(err).after(2 * time.Second)
	case err != nil:
		return err
	}
	status := http.StatusOK
	if len(added) > 0 && !dryRun {
		status = http.StatusCreated
	}
	return writeJSON(w, status, map[string]any{"new": toSchemaList(added)})
}

// schemaProblemJSON shows one thing that is wrong with a schema file.
type schemaProblemJSON struct {
	Line  int    `json:"line,omitempty"` // from 1
	Type  string `json:"type,omitempty"`
	Field string `json:"field,omitempty"`
	Rule  string `json:"rule"`
	What  string `json:"what"`
	Do    string `json:"do,omitempty"`
}

func schemaRefused(problems []avro.Problem) error {
	list, text := make([]schemaProblemJSON, len(problems)), make([]string, len(problems))
	for i, p := range problems {
		list[i] = schemaProblemJSON{Line: p.Line, Type: p.Type, Field: p.Field, Rule: p.Rule, What: p.What, Do: p.Do}
		text[i] = p.String()
	}
	return fail(problemSchemaRefused, "nothing was registered:\n%s", strings.Join(text, "\n")).with("problems", list)
}

func (s *HTTPServer) getTriggers(w http.ResponseWriter, r *http.Request, _ *AuthPrincipal) error {
	if s.need.Triggers == nil {
		return fail(problemUnavailable, "this gateway lists no Triggers")
	}
	triggers, err := s.need.Triggers.Triggers(r.Context())
	if err != nil {
		return err
	}
	if triggers == nil {
		triggers = []TriggerInfo{}
	}
	if s.need.Dispatching != nil {
		for i := range triggers {
			if status, ok := s.need.Dispatching.Status(triggers[i].Name); ok {
				triggers[i].Dispatch = &status
			}
		}
	}
	return writeJSON(w, http.StatusOK, map[string]any{"triggers": triggers})
}
