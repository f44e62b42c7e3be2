package gateway

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

type openAPIDocument struct {
	OpenAPI    string `json:"openapi"`
	Info       struct{ Description string }
	Paths      map[string]map[string]json.RawMessage
	Components map[string]map[string]json.RawMessage
}

type openAPIParameter struct {
	Ref  string `json:"$ref"`
	Name string
	In   string
}

func TestOpenAPIDescribesEveryRouteAndNoOther(t *testing.T) {
	t.Parallel()
	var doc openAPIDocument
	if err := json.Unmarshal(openAPI, &doc); err != nil {
		t.Fatal(err)
	}
	if doc.OpenAPI != "3.1.0" {
		t.Errorf("openapi is %q", doc.OpenAPI)
	}
	described := map[string][]string{} // "GET /path" -> query parameters
	for path, item := range doc.Paths {
		var shared []openAPIParameter
		if raw, ok := item["parameters"]; ok {
			if err := json.Unmarshal(raw, &shared); err != nil {
				t.Fatal(err)
			}
		}
		for method, raw := range item {
			if method == "parameters" {
				continue
			}
			var operation struct {
				Parameters []openAPIParameter
				Responses  map[string]json.RawMessage
			}
			if err := json.Unmarshal(raw, &operation); err != nil {
				t.Fatal(err)
			}
			var query, inPath []string
			for _, p := range append(shared, operation.Parameters...) {
				switch p.In {
				case "query":
					query = append(query, p.Name)
				case "path":
					inPath = append(inPath, "{"+p.Name+"}")
				}
			}
			want := regexp.MustCompile(`\{\w+\}`).FindAllString(path, -1)
			if fmt.Sprint(inPath) != fmt.Sprint(want) {
				t.Errorf("%s %s describes the path parameters %v, want %v", method, path, inPath, want)
			}
			if len(operation.Responses) == 0 {
				t.Errorf("%s %s describes no responses", method, path)
			}
			described[strings.ToUpper(method)+" "+path] = query
		}
	}
	for _, route := range httpRoutes() {
		key := route.method + " " + route.pattern()
		query, ok := described[key]
		if !ok {
			t.Errorf("%s is not described", key)
			continue
		}
		slices.Sort(query)
		params := slices.Sorted(slices.Values(route.params))
		if !slices.Equal(query, params) {
			t.Errorf("%s takes %v, but %v is described", key, params, query)
		}
		delete(described, key)
	}
	for key := range maps.Keys(described) {
		t.Errorf("%s is described, but there is no such route", key)
	}
	for _, ref := range regexp.MustCompile(`"#/components/(\w+)/(\w+)"`).FindAllStringSubmatch(string(openAPI), -1) {
		if _, ok := doc.Components[ref[1]][ref[2]]; !ok {
			t.Errorf("%s leads nowhere", ref[0])
		}
	}
}

func TestEveryProblemIsDescribed(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("problem.go")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`problemKind\{"([a-z-]+)", http\.\w+, "([^"]+)"\}`).FindAllStringSubmatch(string(source), -1)
	if len(names) < 30 {
		t.Fatalf("only %d problems were found in problem.go", len(names))
	}
	seen := map[string]bool{}
	for _, n := range names {
		if seen[n[1]] {
			t.Errorf("two problems are named %q", n[1])
		}
		seen[n[1]] = true
		if !strings.Contains(string(openAPI), `"`+problemPrefix+n[1]+`"`) || !strings.Contains(string(openAPI), n[2]) {
			t.Errorf("problem %q (%s) is not in openapi.json", n[1], n[2])
		}
	}
}

// docs/http-api.md names every path, method, parameter, status and problem, and none that is not there.
func TestThePageOfTheAPISaysTheSame(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/http-api.md")
	if err != nil {
		t.Fatal(err)
	}
	calls, problems, _ := strings.Cut(string(page), "\n## Problems\n")
	sections := map[string]string{}
	for _, part := range strings.Split(calls, "\n### `")[1:] {
		heading, text, _ := strings.Cut(part, "`")
		sections[heading], _, _ = strings.Cut(text, "\n## ")
	}
	var doc openAPIDocument
	if err := json.Unmarshal(openAPI, &doc); err != nil {
		t.Fatal(err)
	}
	for _, route := range httpRoutes() {
		key := route.method + " " + route.pattern()
		text, ok := sections[key]
		if !ok {
			t.Errorf("docs/http-api.md has no section ### `%s`", key)
			continue
		}
		delete(sections, key)
		var operation struct{ Responses map[string]json.RawMessage }
		if err := json.Unmarshal(doc.Paths[route.pattern()][strings.ToLower(route.method)], &operation); err != nil {
			t.Fatal(err)
		}
		var want, got []string
		for status := range operation.Responses {
			if status != "default" {
				want = append(want, status)
			}
		}
		_, answers, _ := strings.Cut(text, "\nAnswers:")
		for _, m := range regexp.MustCompile("`(\\d{3})`").FindAllStringSubmatch(answers, -1) {
			got = append(got, m[1])
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("docs/http-api.md: %s is answered %v, openapi.json says %v", key, got, want)
		}
		var params []string
		for _, m := range regexp.MustCompile("- `\\?([a-z-]+)=`").FindAllStringSubmatch(text, -1) {
			params = append(params, m[1])
		}
		slices.Sort(params)
		if wanted := slices.Sorted(slices.Values(route.params)); !slices.Equal(params, wanted) {
			t.Errorf("docs/http-api.md: %s takes %v, not %v", key, wanted, params)
		}
	}
	for key := range sections {
		t.Errorf("docs/http-api.md describes %s, which is no route", key)
	}
	rows := regexp.MustCompile("\\| `([a-z-]+)` \\| (\\d+) \\| ([^|]+) \\|").FindAllStringSubmatch(problems, -1)
	described := regexp.MustCompile(`\| .urn:evento:problem:([a-z-]+). \| (\d+) \| ([^|]+) \|`).FindAllStringSubmatch(doc.Info.Description, -1)
	if len(rows) != len(described) {
		t.Errorf("docs/http-api.md lists %d problems, openapi.json %d", len(rows), len(described))
	}
	for i := range min(len(rows), len(described)) {
		if a, b := rows[i][1:], described[i][1:]; !slices.Equal(a, b) {
			t.Errorf("docs/http-api.md lists the problem %v where openapi.json has %v", a, b)
		}
	}
}
