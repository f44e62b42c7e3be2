package gateway

import (
	"strconv"
	"strings"
	"time"
)

// parsePrefer returns how long a request wants to wait by its Prefer headers
// (RFC 7240): wait=<seconds>, at most max. The first wait counts, as the RFC
// has it; preferences that are not known or malformed are ignored, also as it
// has it. given is false when there is no wait.
func parsePrefer(headers []string, max time.Duration) (wait time.Duration, given bool) {
	for _, h := range headers {
		for preference := range strings.SplitSeq(h, ",") {
			preference, _, _ = strings.Cut(preference, ";") // parameters of the preference
			name, value, _ := strings.Cut(preference, "=")
			if !strings.EqualFold(strings.TrimSpace(name), "wait") {
				continue
			}
			seconds, err := strconv.ParseUint(strings.Trim(strings.TrimSpace(value), `"`), 10, 32)
			if err != nil {
				continue
			}
			return min(time.Duration(seconds)*time.Second, max), true
		}
	}
	return 0, false
}

// preferenceApplied is the value of Preference-Applied.
func preferenceApplied(wait time.Duration) string {
	return "wait=" + strconv.FormatInt(int64(wait/time.Second), 10)
}

// parseIfMatch returns the version that the sender expects, nil when any will
// do: If-Match holds one strong entity tag, the version as GET answers it.
// Errors are problems.
func parseIfMatch(headers []string) (*uint64, error) {
	if len(headers) == 0 {
		return nil, nil
	}
	tag := strings.TrimSpace(headers[0])
	bad := func() (*uint64, error) {
		return nil, fail(problemParameter, `If-Match is %q; write the expected version as "7", or "0" for an aggregate that must not exist`, strings.Join(headers, ", ")).field("If-Match")
	}
	if len(headers) > 1 || len(tag) < 3 || tag[0] != '"' || tag[len(tag)-1] != '"' {
		return bad()
	}
	version, err := strconv.ParseUint(tag[1:len(tag)-1], 10, 64)
	if err != nil {
		return bad()
	}
	return &version, nil
}

// versionTag is the entity tag of a version.
func versionTag(version uint64) string { return `"` + strconv.FormatUint(version, 10) + `"` }

// matchesTag says whether an If-None-Match header holds the tag (RFC 9110, 13.1.2: weak comparison).
func matchesTag(headers []string, tag string) bool {
	for _, h := range headers {
		for candidate := range strings.SplitSeq(h, ",") {
			candidate = strings.TrimPrefix(strings.TrimSpace(candidate), "W/")
			if candidate == tag || candidate == "*" {
				return true
			}
		}
	}
	return false
}
