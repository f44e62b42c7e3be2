package kafka

import (
	"context"
	"log/slog"

	ck "github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// forwardLogs writes what librdkafka has to say to log, until the client is
// closed. Without it librdkafka writes to standard error.
func forwardLogs(events <-chan ck.LogEvent, log *slog.Logger) {
	for e := range events {
		log.LogAttrs(context.Background(), syslogLevel(e.Level), "librdkafka",
			slog.String("client", e.Name), slog.String("facility", e.Tag), slog.String("text", e.Message))
	}
}

// syslogLevel maps librdkafka's levels, which are syslog's. A broker that
// cannot be reached is its level 3 (error), and to us only a warning: it goes on trying.
func syslogLevel(level int) slog.Level {
	switch {
	case level <= 2:
		return slog.LevelError
	case level <= 4:
		return slog.LevelWarn
	case level <= 6:
		return slog.LevelInfo
	default:
		return slog.LevelDebug
	}
}
