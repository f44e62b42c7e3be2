package dispatch

import "github.com/evento-oss/evento/internal/kafka"

// GroupID is the consumer group of a dispatcher, by its Trigger's namespace/name.
// Names of Triggers have '/', which some tools take badly in a group's id.
func GroupID(t kafka.Topics, dispatcher string) string {
	return t.Dispatched() + "." + groupName(dispatcher)
}

// RelayGroupID is the consumer group of those who send the commands of decisions.
func RelayGroupID(t kafka.Topics) string { return t.Dispatched() + "-relay" }
