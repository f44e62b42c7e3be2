package gateway

import (
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// contract holds the answers of a gateway against openapi.json, so that every test
// that calls one is a test of the description too. What the description does not
// name may not be in an answer.
type contract struct {
	doc      map[string]any
	routes   *http.ServeMux
	compiler *jsonschema.Compiler
	mu       sync.Mutex // guards schemas and the compiler
	schemas  map[string]*jsonschema.Schema
}

var theContract = sync.OnceValues(func() (*contract, error) {
	c := &contract{routes: http.NewServeMux(), compiler: jsonschema.NewCompiler(), schemas: map[string]*jsonschema.Schema{}}
	text := strings.NewReader(string(openAPI))
	doc, err := jsonschema.UnmarshalJSON(text)
	if err != nil {
		return nil, err
	}
	c.doc = doc.(map[string]any)
	closeSchemas(c.doc, "", false)
	for _, route := range httpRoutes() {
		c.routes.Handle(route.method+" "+route.path, http.NotFoundHandler())
	}
	return c, c.compiler.AddResource("openapi.json", c.doc)
})

// closeSchemas has each use of a schema refuse members that it does not name. A
// named schema itself stays open, because another may be made of it.
func closeSchemas(node any, key string, named bool) {
	switch n := node.(type) {
	case map[string]any:
		_, open := n["additionalProperties"]
		ref, _ := n["$ref"].(string)
		_, object := n["properties"].(map[string]any)
		if !open && !named && key != "if" && key != "else" && (object || strings.HasPrefix(ref, "#/components/schemas/")) {
			n["unevaluatedProperties"] = false
		}
		for k, child := range n {
			closeSchemas(child, k, key == "schemas")
		}
	case []any:
		for _, child := range n {
			closeSchemas(child, "", false)
		}
	}
}

// check reports where an answer is not as described.
func (c *contract) check(t *testing.T, method, path string, status int, header http.Header, body string) {
	t.Helper()
	u, err := url.Parse(path)
	if err != nil {
		return // the client refuses it
	}
	_, pattern := c.routes.Handler(&http.Request{Method: method, URL: u, Host: "localhost"})
	_, pattern, ok := strings.Cut(strings.TrimSuffix(pattern, "{$}"), " ")
	if !ok || method == http.MethodHead || status == http.StatusRequestHeaderFieldsTooLarge {
		return // no route, nothing to see, or answered by net/http before there is a request
	}
	where := fmt.Sprintf("%s %s answers %d", method, pattern, status)
	responses := c.find("paths", pattern, strings.ToLower(method), "responses").(map[string]any)
	at := []string{"paths", pattern, strings.ToLower(method), "responses", strconv.Itoa(status)}
	if _, ok := responses[at[4]]; !ok {
		if at[4] = "default"; responses["default"] == nil || status < 400 {
			t.Errorf("%s, which openapi.json does not describe", where)
			return
		}
	}
	response := c.find(at...).(map[string]any)
	if ref, ok := response["$ref"].(string); ok {
		at = strings.Split(strings.TrimPrefix(ref, "#/"), "/")
		response = c.find(at...).(map[string]any)
	}
	media, _, _ := mime.ParseMediaType(header.Get("Content-Type"))
	content, _ := response["content"].(map[string]any)
	if body == "" {
		return
	}
	if content[media] == nil {
		t.Errorf("%s with the content type %q, which openapi.json does not describe", where, media)
		return
	}
	if !strings.HasSuffix(media, "json") {
		return
	}
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(body))
	if err != nil {
		t.Errorf("%s: %v", where, err)
		return
	}
	schema, err := c.schema(append(at, "content", media, "schema"))
	if err != nil {
		t.Errorf("%s: the schema: %v", where, err)
		return
	}
	if err := schema.Validate(value); err != nil {
		t.Errorf("%s other than openapi.json says: %v\n%s", where, err, body)
	}
	if media == "application/problem+json" {
		if told := value.(map[string]any)["status"]; fmt.Sprint(told) != strconv.Itoa(status) {
			t.Errorf("%s, and its problem says %v", where, told)
		}
	}
}

func (c *contract) find(path ...string) any {
	var node any = c.doc
	for _, key := range path {
		node = node.(map[string]any)[key]
	}
	return node
}

func (c *contract) schema(path []string) (*jsonschema.Schema, error) {
	pointer := "openapi.json#"
	for _, key := range path {
		pointer += "/" + url.PathEscape(strings.NewReplacer("~", "~0", "/", "~1").Replace(key))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.schemas[pointer]; s != nil {
		return s, nil
	}
	s, err := c.compiler.Compile(pointer)
	c.schemas[pointer] = s
	return s, err
}

// checkContract holds an answer against openapi.json.
func checkContract(t *testing.T, method, path string, a answer) {
	t.Helper()
	c, err := theContract()
	if err != nil {
		t.Fatal(err)
	}
	c.check(t, method, path, a.status, a.header, a.body)
}

// The contract itself can fail.
func TestContractFindsWhatIsNotDescribed(t *testing.T) {
	t.Parallel()
	c, err := theContract()
	if err != nil {
		t.Fatal(err)
	}
	jsonHeader := http.Header{"Content-Type": {"application/json"}}
	for name, x := range map[string]struct {
		path   string
		status int
		body   any
	}{
		"a member that is missing":   {"/v1/aggregates/a:1", 200, map[string]any{"entity": "a:1", "type": "A.A", "version": 1}},
		"a member that is not named": {"/v1/aggregates/a:1", 200, map[string]any{"entity": "a:1", "type": "A.A", "version": 1, "state": 1, "secret": 1}},
		"one in a list":              {"/v1/aggregates/a:1/events", 200, map[string]any{"events": []any{map[string]any{"id": "1", "type": "A.B", "entity": "a:1", "extra": 1}}}},
		"one in a link":              {"/v1/causes/t/0/0", 200, map[string]any{"links": []any{map[string]any{"kind": "event", "coordinates": "t/0/0", "id": "1", "type": "A.B", "entity": "a:1", "extra": 1}}}},
		"a link without its event":   {"/v1/causes/t/0/0", 200, map[string]any{"links": []any{map[string]any{"kind": "event", "coordinates": "t/0/0"}}}},
		"a status":                   {"/v1/schemas", 299, map[string]any{"types": []any{}}},
		"a value of another type":    {"/v1/schemas", 200, map[string]any{"types": []any{map[string]any{"name": 1}}}},
	} {
		text, err := json.Marshal(x.body)
		if err != nil {
			t.Fatal(err)
		}
		var probe testing.T
		c.check(&probe, "GET", x.path, x.status, jsonHeader, string(text))
		if !probe.Failed() {
			t.Errorf("%s is not found", name)
		}
	}
	c.check(t, "GET", "/v1/causes/t/0/0", 200, jsonHeader, `{"links":[{"kind":"hidden","coordinates":"t/0/0"},{"kind":"event","coordinates":"t/0/0","id":"1","type":"A.B","entity":"a:1"}]}`)
}
