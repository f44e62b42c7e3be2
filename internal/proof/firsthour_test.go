package proof

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/evento-oss/evento/internal/porttest"
)

var shellBlock = regexp.MustCompile("(?s)```sh\n(.*?)```")

// TestFirstHour does what a newcomer does beside what `make run` runs: the
// lines of the README's "Try it" pasted into a shell, and the tour.
func TestFirstHour(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(evento(t), filepath.Join(dir, "bin", "evento")); err != nil {
		t.Fatal(err)
	}
	address := porttest.Free(t)
	_, port, _ := strings.Cut(address, ":")
	dev := start(t, "dev", evento(t), nil, "dev", "--dir", filepath.Join(dir, ".evento"), "--port", port)
	dev.awaitLineFor(t, 4*patience, "Ctrl-C") // all functions are built
	shell := func(t *testing.T, lines string) string {
		t.Helper()
		cmd := exec.Command("bash", "-euo", "pipefail", "-c", strings.ReplaceAll(lines, "127.0.0.1:8090", address))
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "EVENTO_GATEWAY=http://"+address)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v:\n%s", err, out)
		}
		return string(out)
	}

	t.Run("README", func(t *testing.T) {
		out := shell(t, pasteLines(t))
		rest := out
		for _, word := range []string{"CheckingAccountOpened", "DepositReceived", "WithdrawCashFailed", `10000`, "WithdrawCashFailed", `"command":"deposit-2","status":"done","version":4`} {
			_, after, found := strings.Cut(rest, word)
			if !found {
				t.Fatalf("%q does not come where it should:\n%s", word, out)
			}
			rest = after
		}
	})
	t.Run("tour", func(t *testing.T) {
		out := shell(t, "bin/evento demo --plain")
		if !strings.Contains(out, "That was the tour") || strings.Contains(out, "Left out") {
			t.Errorf("the tour was cut short:\n%s", out)
		}
	})
	dev.terminate(t)
}

// pasteLines are the README's lines to paste.
func pasteLines(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "\n## Try it\n")
	section, _, _ = strings.Cut(section, "\n## ")
	blocks := shellBlock.FindAllStringSubmatch(section, -1)
	if !found || len(blocks) != 2 || !strings.Contains(blocks[0][1], "make run") {
		t.Fatalf("README's section \"Try it\" has not the two blocks, make run and lines to paste: %q", blocks)
	}
	return blocks[1][1]
}
