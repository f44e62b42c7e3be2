package gateway

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// limits are the settings that an operator may move, by name; each is a pointer
// to its field: *int, *int64 or *time.Duration. docs/limits.md lists them.
func (c *HTTPConfig) limits() map[string]any {
	return map[string]any{
		settingMaxBody: &c.MaxBody, settingMaxData: &c.MaxData, settingMaxHeader: &c.MaxHeader, settingMaxConns: &c.MaxConns,
		settingMaxInflight: &c.MaxInflight, settingMaxStreams: &c.MaxStreams, settingMaxBuffered: &c.MaxBuffered, settingBatch: &c.MaxBatch,
		settingMaxWait: &c.MaxWait, settingReadWait: &c.ReadWait, settingAppendTimeout: &c.AppendTimeout, settingWaitAggregate: &c.Wait.PerAggregate,
	}
}

// Set sets a limit by the name that errors and answers call it by: a number, or a
// duration such as 30s. Whether it can be so is for [HTTPConfig.Check] to say.
func (c *HTTPConfig) Set(setting, value string) error {
	value = strings.TrimSpace(value)
	var err error
	switch field := c.limits()[setting].(type) {
	case *int:
		*field, err = strconv.Atoi(value)
		if err != nil || *field <= 0 {
			return fmt.Errorf("%s is %q, not a number above 0", setting, value)
		}
	case *int64:
		*field, err = strconv.ParseInt(value, 10, 64)
		if err != nil || *field <= 0 {
			return fmt.Errorf("%s is %q, not a number above 0", setting, value)
		}
	case *time.Duration:
		*field, err = time.ParseDuration(value)
		if err != nil || *field <= 0 {
			return fmt.Errorf("%s is %q, not a duration such as 30s", setting, value)
		}
	default:
		return fmt.Errorf("%q is no setting of the HTTP face; docs/limits.md lists them", setting)
	}
	return nil
}
