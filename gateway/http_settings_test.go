package gateway

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evento-oss/evento/runtime"
)

// defaultText is how docs/limits.md writes a default.
func defaultText(v any) string {
	var n int64
	switch v := v.(type) {
	case *time.Duration:
		return v.String()
	case *int:
		n = int64(*v)
	case *int64:
		n = *v
	}
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// docs/limits.md has each limit with its default, and none that is not there.
func TestThePageOfLimitsSaysTheSame(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-zA-Z_.]+)` \\| ([^|]+) \\|").FindAllStringSubmatch(string(page), -1) {
		rows[m[1]] = m[2]
	}
	c := HTTPConfig{MaxConns: 10_000}.withDefaults() // whatever this machine's limit of files is
	want := map[string]string{}
	for name, field := range c.limits() {
		want[name] = defaultText(field)
	}
	f, err := runtime.ConfigFromEnvironment(func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	conns := runtime.DefaultMaxConns
	for name, field := range map[string]any{
		"EVENTO_MAX_BODY": &f.MaxBody, "EVENTO_MAX_BUFFERED": &f.MaxBuffered, "EVENTO_MAX_CONNECTIONS": &conns, "max_inflight": &f.MaxInflight,
		"read_timeout": &f.ReadTimeout, "exec_timeout": &f.ExecTimeout, "write_timeout": &f.WriteTimeout,
	} {
		want[name] = defaultText(field)
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if rows[name] != want[name] {
			t.Errorf("docs/limits.md: the default of %s is %q, want %q", name, rows[name], want[name])
		}
		delete(rows, name)
	}
	for name := range rows {
		t.Errorf("docs/limits.md has %s, which is no limit", name)
	}
}

// Each limit is set by the name that an answer calls it by.
func TestLimitsAreSetByName(t *testing.T) {
	t.Parallel()
	var c HTTPConfig
	for name, field := range c.limits() {
		value := "4096"
		if _, is := field.(*time.Duration); is {
			value = "4s"
		}
		if err := c.Set(name, value); err != nil || defaultText(field) != strings.Replace(value, "4096", "4,096", 1) {
			t.Errorf("%s=%s is %s, %v", name, value, defaultText(field), err)
		}
		for _, bad := range []string{"", "0", "-1", "x", "1e9", "99999999999999999999"} {
			if err := c.Set(name, bad); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s=%s: %v", name, bad, err)
			}
		}
	}
	if err := c.Set("http.max.nothing", "1"); err == nil {
		t.Error("a setting that is none is taken")
	}
}
