package runtime_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/evento-oss/evento/runtime"
	"github.com/evento-oss/evento/runtime/internal/basket"
)

func TestADrillFailsTheCommandsThatItsFileNames(t *testing.T) {
	file := filepath.Join(t.TempDir(), "drill")
	f := basket.HandlerFunction(handler{}).Function
	url, _, _ := served(t, f, runtime.Config{Drill: file})
	client := newClient(t, runtime.ClientOptions{})
	call := func() *runtime.Failure {
		t.Helper()
		results, _, err := client.Invoke(within(t), url, "", []runtime.Invocation{invocation(runtime.KindHandle, add(t, f, "tea", 1))})
		if err != nil {
			t.Fatal(err)
		}
		return results[0].Failure
	}
	aggregate := string(add(t, f, "tea", 1).Aggregate())
	for _, c := range []struct{ file, want string }{
		{"", ""},
		{aggregate + " error the disk is on fire\n", "the disk is on fire"},
		{"basket:other error the disk is on fire\n", ""},
		{"\n" + aggregate + "\n", "neither error nor exit"},
	} {
		if err := os.WriteFile(file, []byte(c.file), 0o600); err != nil {
			t.Fatal(err)
		}
		failure := call()
		if (failure == nil) != (c.want == "") || failure != nil && !strings.Contains(failure.Message, c.want) {
			t.Errorf("with the file %q: %+v, want %q", c.file, failure, c.want)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if failure := call(); failure != nil {
		t.Errorf("without a file: %+v", failure)
	}
}
