package runtime

import (
	"fmt"
	"runtime/debug"
	"strings"
)

// maxTrace is the greatest length of a trace in bytes.
const maxTrace = 4096

// guard runs author's code and turns a panic into a failure.
func guard(run func() *Failure) (failure *Failure) {
	defer func() {
		if v := recover(); v != nil {
			failure = &Failure{Code: FailurePanic, Message: clip(fmt.Sprintf("panic: %v", v), maxMessage), Trace: trimTrace(string(debug.Stack()))}
		}
	}()
	return run()
}

// trimTrace cuts a stack to the author's part: it drops the frames above the
// panic (recover and panic themselves) and those of this package below. A stack
// is two lines a frame after one line that names the goroutine.
func trimTrace(stack string) string {
	lines := strings.Split(strings.TrimRight(stack, "\n"), "\n")
	if len(lines) > 0 && strings.HasPrefix(lines[0], "goroutine ") {
		lines = lines[1:]
	}
	for i := 0; i+1 < len(lines); i += 2 {
		if strings.HasPrefix(lines[i], "panic(") {
			lines = lines[i+2:]
			break
		}
	}
	var out []string
	for i := 0; i+1 < len(lines); i += 2 {
		if strings.HasPrefix(lines[i], "github.com/evento-oss/evento/runtime.") {
			break
		}
		out = append(out, lines[i], lines[i+1])
	}
	return clip(strings.Join(out, "\n"), maxTrace)
}

// maxMessage is the greatest length of a failure's message in bytes.
const maxMessage = 2048

// clip cuts a text to a length, at the start of a character, and makes it valid
// UTF-8, which the protocol asks for.
func clip(s string, length int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= length {
		return s
	}
	for length > 0 && s[length]&0xC0 == 0x80 {
		length--
	}
	return s[:length]
}
