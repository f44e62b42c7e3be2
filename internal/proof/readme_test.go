package proof

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var shellBlock = regexp.MustCompile("(?s)```sh\n(.*?)```")

// TestReadme pastes the lines of the README's "Try it" as a newcomer does, into
// a shell beside what `make run` runs.
func TestReadme(t *testing.T) {
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
	lines := blocks[1][1]

	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(evento(t), filepath.Join(dir, "bin", "evento")); err != nil {
		t.Fatal(err)
	}
	address := freeAddress(t)
	_, port, _ := strings.Cut(address, ":")
	dev := start(t, "dev", evento(t), nil, "dev", "--dir", filepath.Join(dir, ".evento"), "--port", port)
	dev.awaitLine(t, "broker on") // all functions are built
	dev.awaitLine(t, "Ctrl-C")

	shell := exec.Command("bash", "-euo", "pipefail", "-c", strings.ReplaceAll(lines, "127.0.0.1:8090", address))
	shell.Dir = dir
	shell.Env = append(os.Environ(), "EVENTO_GATEWAY=http://"+address)
	out, err := shell.CombinedOutput()
	if err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	rest := string(out)
	for _, word := range []string{"CheckingAccountOpened", "DepositReceived", "WithdrawCashFailed", `10000`, "WithdrawCashFailed", `"command":"deposit-2","status":"done","version":4`} {
		_, after, found := strings.Cut(rest, word)
		if !found {
			t.Fatalf("%q does not come where it should:\n%s", word, out)
		}
		rest = after
	}
	dev.terminate(t)
}
