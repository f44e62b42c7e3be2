package generate_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/evento-oss/evento/internal/generate"
)

var update = flag.Bool("update", false, "write the generated files instead of comparing them")

// The protocol's Go code is generated from its schema and committed. This test
// holds the two together; with -update it writes the code anew.
func TestProtocolIsGeneratedFromItsSchema(t *testing.T) {
	text, err := os.ReadFile("../../runtime/protocol.avsc")
	if err != nil {
		t.Fatal(err)
	}
	files, err := generate.Records("protocol.avsc", text, "protocol")
	if err != nil {
		t.Fatal(err)
	}
	compare(t, "../../runtime/protocol", files)
}

func compare(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	if *update {
		if err := generate.Write(dir, files); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Errorf("%v; run go test ./internal/generate -update", err)
		} else if !bytes.Equal(got, want) {
			t.Errorf("%s is not what its schema generates; run go test ./internal/generate -update", filepath.Join(dir, name))
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if _, ok := files[e.Name()]; !ok && filepath.Ext(e.Name()) == ".go" && e.Name() != "doc.go" {
			t.Errorf("%s is not generated from the schema any more; remove it", filepath.Join(dir, e.Name()))
		}
	}
}
