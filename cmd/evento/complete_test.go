package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestCompletionOfShells(t *testing.T) {
	for shell, words := range map[string][]string{
		"bash": {"__start_evento", "complete -o default"},
		"zsh":  {"#compdef evento"},
		"fish": {"complete -c evento"},
	} {
		code, script, errs := evento(t, "", "completion", shell)
		if code != exitOK || errs != "" {
			t.Errorf("%s: code %d, %s", shell, code, errs)
		}
		contains(t, shell, script, words...)
		path, err := exec.LookPath(shell)
		if err != nil {
			continue // what completes is tested below without a shell
		}
		file := filepath.Join(t.TempDir(), "evento."+shell)
		if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
			t.Fatal(err)
		}
		var said bytes.Buffer
		check := exec.CommandContext(t.Context(), path, "-n", file)
		check.Stderr = &said
		if err := check.Run(); err != nil {
			t.Errorf("%s cannot read its script: %v\n%s", shell, err, &said)
		}
	}
	_, help, _ := evento(t, "", "--help")
	contains(t, "help", help, "completion")
}

func TestCompletion(t *testing.T) {
	url, _ := fake(t, answerWith{status: 200, body: `{"types":[{"name":"A.Open","kind":"command"},{"name":"A.Opened","kind":"event"},{"name":"A.A","kind":"root"}]}`})
	t.Setenv("EVENTO_GATEWAY", url)
	for line, want := range map[string]string{
		"ca":                       "cause",
		"re":                       "replay",
		"ver":                      "verify",
		"verify --pr":              "--prefix",
		"verify -o ":               "text json",
		"parked d":                 "drop",
		"events --fo":              "--follow",
		"events --from ":           "latest earliest",
		"replay --from ":           "earliest latest",
		"get -o ":                  "text json",
		"send checking:1 ":         "A.Open",
		"send --event checking:1 ": "A.Opened",
		"send ":                    "",
		"cause ":                   "",
	} {
		words := strings.Split(line, " ")
		code, out, _ := evento(t, "", append([]string{"__complete"}, words...)...)
		if code != exitOK {
			t.Errorf("%q: code %d", line, code)
		}
		var got []string
		for _, l := range strings.Split(out, "\n") {
			if l != "" && !strings.HasPrefix(l, ":") {
				word, _, _ := strings.Cut(l, "\t")
				got = append(got, word)
			}
		}
		if text := strings.Join(got, " "); text != want {
			t.Errorf("%q completes to %q, want %q", line, text, want)
		}
	}
	t.Setenv("EVENTO_GATEWAY", "http://127.0.0.1:1")
	if code, out, _ := evento(t, "", "__complete", "send", "checking:1", ""); code != exitOK || !strings.HasPrefix(out, ":") {
		t.Errorf("without a gateway: code %d, %s", code, out)
	}
}
