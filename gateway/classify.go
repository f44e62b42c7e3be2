package gateway

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"time"

	"github.com/evento-oss/evento/internal/avro"
	"github.com/evento-oss/evento/runtime"
)

// classifier turns what came in into what is written: it finds the type,
// decides whether it is a command or an event, checks that it fits the entity
// and the schema, and stamps what only the platform may say. What passes here
// is valid; the engine does not look again.
type classifier struct {
	schemas Schemas
	maxData int // bytes
	now     func() time.Time
}

// classify returns the message to write. Errors are problems.
func (c *classifier) classify(d *draft, p *AuthPrincipal) (*runtime.Message, error) {
	entity, err := runtime.ParseEntity(d.entity)
	if err != nil {
		return nil, fail(problemAttribute, "%s: %s", d.name("subject"), err).field(d.name("subject"))
	}
	place, known := c.schemas.Place(entity)
	t, err := c.findType(d, entity, place, known)
	if err != nil {
		return nil, err
	}
	if err := c.checkKind(d, t); err != nil {
		return nil, err
	}
	if err := c.checkPlace(d, t, entity, place, known); err != nil {
		return nil, err
	}
	right := RightSend
	if t.Kind != avro.KindCommand {
		right = RightPublish
	}
	if !p.May(right, t.Aggregate) {
		return nil, fail(problemForbidden, "principal %q lacks the right %q for aggregate type %q", p.Name, right, t.Aggregate)
	}
	source, err := c.source(d, p)
	if err != nil {
		return nil, err
	}
	m := &runtime.Message{
		ID:          d.id,
		Type:        t.Name,
		Source:      source,
		Subject:     entity,
		Time:        d.time,
		TraceParent: d.trace,
	}
	if m.ID == "" {
		m.ID = newMessageID(c.now())
	} else if why := badID(m.ID); why != "" {
		return nil, fail(problemAttribute, "%s %s", d.name("id"), why).field(d.name("id"))
	}
	if m.Time.IsZero() {
		m.Time = c.now()
	}
	if y := m.Time.UTC().Year(); y < 1970 || y > 9999 {
		return nil, fail(problemAttribute, "%s is in the year %d; the years 1970 to 9999 are taken", d.name("time"), y).field(d.name("time"))
	}
	m.Time = m.Time.UTC().Truncate(time.Millisecond)
	if err := c.setData(m, d, t); err != nil {
		return nil, err
	}
	return m, nil
}

// findType resolves the type; one without a namespace is looked up in the
// entity's aggregate.
func (c *classifier) findType(d *draft, e runtime.Entity, place EntityPlace, known bool) (SchemaType, error) {
	name, field := runtime.TypeName(d.typ), d.name("type")
	if name.Namespace() == "" {
		if !known {
			return SchemaType{}, c.unknownEntity(d, e)
		}
		name = runtime.TypeName(place.Aggregate + "." + d.typ)
	}
	if name.Namespace() == "evento" {
		return SchemaType{}, fail(problemWrongKind, "%s %q is the platform's own and is not taken from outside", field, d.typ).field(field)
	}
	t, ok := c.schemas.Newest(name)
	if !ok {
		return SchemaType{}, fail(problemUnknownType, "%s %q is not registered; register its schema, or correct the name", field, name).field(field)
	}
	return t, nil
}

func (c *classifier) checkKind(d *draft, t SchemaType) error {
	field := d.name("type")
	switch t.Kind {
	case avro.KindCommand:
		if d.wants == wantEvent {
			return fail(problemWrongKind, "%s %q is a command; POST it to /v1/commands", field, t.Name).field(field)
		}
	case avro.KindEvent, avro.KindFailure:
		if d.wants == wantCommand {
			return fail(problemWrongKind, "%s %q is an event; POST it to /v1/events", field, t.Name).field(field)
		}
	default:
		return fail(problemWrongKind, "%s %q is neither a command nor an event, but of kind %q", field, t.Name, string(t.Kind)).field(field)
	}
	return nil
}

// checkPlace checks that the entity is of the type that the message is for.
func (c *classifier) checkPlace(d *draft, t SchemaType, e runtime.Entity, place EntityPlace, known bool) error {
	field := d.name("subject")
	switch {
	case !known:
		return c.unknownEntity(d, e)
	case place.Aggregate != t.Aggregate:
		return fail(problemWrongTarget, "%s %q belongs to aggregate type %q, but %q to %q", field, e, place.Aggregate, t.Name, t.Aggregate).field(field)
	case place.Type != t.Entity:
		return fail(problemWrongTarget, "%s %q is %s, but %q is for %s", field, e, entityTypeText(place.Type), t.Name, entityTypeText(t.Entity)).field(field)
	}
	return nil
}

func (c *classifier) unknownEntity(d *draft, e runtime.Entity) error {
	field := d.name("subject")
	return fail(problemWrongTarget, "%s %q: no registered entity type has these prefixes", field, e).field(field)
}

func entityTypeText(name string) string {
	if name == "" {
		return "the root of its aggregate"
	}
	return "an entity of type " + name
}

// source decides under which source the message is written: it is part of the
// command's identity, so it must be the sender's own.
func (c *classifier) source(d *draft, p *AuthPrincipal) (string, error) {
	field := d.name("source")
	switch {
	case d.source == "":
		return p.Source, nil
	case platformSource(d.source):
		return "", fail(problemReservedSource, "%s %q begins with /evento, which only the platform uses", field, d.source).field(field)
	}
	if why := badSource(d.source); why != "" {
		return "", fail(problemAttribute, "%s %s", field, why).field(field)
	}
	if !p.mayClaim(d.source) {
		return "", fail(problemSourceForbidden, "principal %q may not send as %s %q; its own is %q", p.Name, field, d.source, p.Source).field(field)
	}
	return d.source, nil
}

// setData puts the Avro value and its schema into m.
func (c *classifier) setData(m *runtime.Message, d *draft, t SchemaType) error {
	field := d.name("data")
	if d.schema != "" {
		if err := c.checkDataSchema(d, t); err != nil {
			return err
		}
	}
	switch {
	case !d.isAvro:
		data, schema, err := c.schemas.FromJSON(t.Name, d.data)
		if err != nil {
			return fail(problemSchema, "%s does not match %s: %s", field, t.Name, err).field(field)
		}
		m.Data, m.Schema = data, schema
	default:
		m.Data, m.Schema = d.data, runtime.NewDataSchema(t.Name, t.Fingerprint)
		if d.schema != "" {
			m.Schema = runtime.DataSchema(d.schema)
		}
		if err := c.schemas.Validate(m.Schema, m.Data); err != nil {
			return fail(problemSchema, "%s does not match %s: %s", field, m.Schema, err).field(field)
		}
	}
	if len(m.Data) > c.maxData {
		return fail(problemTooLarge, "%s is %d bytes as Avro, more than the limit of %d bytes that is set by %s", field, len(m.Data), c.maxData, settingMaxData).
			limit(settingMaxData, int64(c.maxData)).field(field)
	}
	return nil
}

// checkDataSchema checks the dataschema that the sender names. Avro data is
// read by it, so it must be a registered version of the type; for JSON data,
// which is read by the newest version, one of another kind says nothing here.
func (c *classifier) checkDataSchema(d *draft, t SchemaType) error {
	field := d.name("dataschema")
	if !d.isAvro && !strings.HasPrefix(d.schema, "urn:evento:") {
		return nil
	}
	schema := runtime.DataSchema(d.schema)
	name, _, err := schema.Parse()
	if err != nil {
		return fail(problemAttribute, "%s: %s", field, err).field(field)
	}
	if name != t.Name {
		return fail(problemAttribute, "%s names %q, but the type is %q", field, name, t.Name).field(field)
	}
	if _, ok := c.schemas.Version(schema); !ok {
		return fail(problemUnknownType, "%s %q is not a registered version", field, d.schema).field(field)
	}
	return nil
}

// newMessageID returns a UUIDv7 (RFC 9562): ids that are made one after the
// other sort so, in the log and in whatever the client stores.
func newMessageID(now time.Time) string {
	var u [16]byte
	rand.Read(u[6:]) // never fails: crypto/rand
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(now.UnixMilli()))
	copy(u[:6], ms[2:])
	u[6] = u[6]&0x0f | 0x70
	u[8] = u[8]&0x3f | 0x80
	text := hex.EncodeToString(u[:])
	return text[:8] + "-" + text[8:12] + "-" + text[12:16] + "-" + text[16:20] + "-" + text[20:]
}
