// Projection keeps the balances of all accounts in an SQLite file, to be asked
// in SQL. It can be killed at any moment, and be made to read everything again.
//
//	go run ./projection --kafka 127.0.0.1:9092 --gateway http://127.0.0.1:8090 --file bank.sqlite
//	sqlite3 bank.sqlite 'SELECT entity, balance FROM accounts ORDER BY balance DESC'
//
// Two rules make it right. What was read and how far it was read are written in
// one transaction, to the same file, so neither is ever ahead of the other. And
// an event changes a row only if its version is greater than the row's, so an
// event that is read again, after a replay or from a topic that was restored to
// other offsets, changes nothing.
package main

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	_ "modernc.org/sqlite"

	"github.com/evento-oss/evento/examples/consumers/schemas"
)

func main() {
	servers := flag.String("kafka", "127.0.0.1:9092", "bootstrap servers")
	topic := flag.String("topic", "kf-evento-events", "topic of the events")
	gateway := flag.String("gateway", "http://127.0.0.1:8090", "URL of a gateway, for the schemas")
	file := flag.String("file", "bank.sqlite", "database file")
	replay := flag.Bool("replay", false, "read the topic from its beginning again, into the rows that are there")
	once := flag.Bool("once", false, "end when everything has been read")
	show := flag.Bool("show", false, "print the rows and end")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	p, err := open(*file, *replay)
	if err != nil {
		log.Fatal(err)
	}
	defer p.db.Close()
	if *show {
		if err := p.show(ctx); err != nil {
			log.Fatal(err)
		}
		return
	}
	p.schemas = schemas.New(*gateway)
	if err := p.run(ctx, *servers, *topic, *once); err != nil {
		log.Fatal(err)
	}
}

type projection struct {
	db      *sql.DB
	schemas *schemas.Registry
}

func open(file string, replay bool) (*projection, error) {
	db, err := sql.Open("sqlite", "file:"+file+"?_pragma=journal_mode(wal)&_pragma=busy_timeout(5000)")
	if err != nil {
		return nil, err
	}
	if _, err := db.Exec(`
		CREATE TABLE IF NOT EXISTS positions (topic TEXT, partition INTEGER, next INTEGER NOT NULL, PRIMARY KEY (topic, partition));
		CREATE TABLE IF NOT EXISTS accounts (entity TEXT PRIMARY KEY, version INTEGER NOT NULL, balance INTEGER NOT NULL)`); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if replay {
		if _, err := db.Exec(`DELETE FROM positions`); err != nil {
			return nil, err
		}
	}
	return &projection{db: db}, nil
}

// run reads on from the positions in the file. It is in no consumer group: Kafka
// need not remember what the file does.
func (p *projection) run(ctx context.Context, servers, topic string, once bool) error {
	consumer, err := kafka.NewConsumer(&kafka.ConfigMap{
		"bootstrap.servers":    servers,
		"group.id":             "unused", // the client wants one
		"enable.auto.commit":   false,
		"isolation.level":      "read_committed",
		"auto.offset.reset":    "error", // a position that is not there is an error, not a reason to begin anywhere
		"enable.partition.eof": true,
	})
	if err != nil {
		return err
	}
	defer consumer.Close()
	waiting, err := p.assign(ctx, consumer, topic)
	if err != nil {
		return err
	}
	for ctx.Err() == nil && (!once || len(waiting) > 0) {
		switch m := consumer.Poll(100).(type) {
		case *kafka.Message:
			if err := p.take(ctx, m); err != nil {
				return fmt.Errorf("%s: %w", m.TopicPartition, err)
			}
		case kafka.PartitionEOF:
			delete(waiting, m.Partition)
		case kafka.Error:
			if m.IsFatal() || m.Code() == kafka.ErrAutoOffsetReset {
				return m
			}
			log.Print(m)
		}
	}
	return nil
}

// assign has the consumer read all partitions, each from where the file says.
func (p *projection) assign(ctx context.Context, consumer *kafka.Consumer, topic string) (map[int32]bool, error) {
	metadata, err := consumer.GetMetadata(&topic, false, int((10 * time.Second).Milliseconds()))
	if err != nil {
		return nil, err
	}
	var all []kafka.TopicPartition
	waiting := map[int32]bool{}
	for _, partition := range metadata.Topics[topic].Partitions {
		next := kafka.OffsetBeginning
		var saved int64
		err := p.db.QueryRowContext(ctx, `SELECT next FROM positions WHERE topic = ? AND partition = ?`, topic, partition.ID).Scan(&saved)
		switch {
		case err == nil:
			next = kafka.Offset(saved)
		case err != sql.ErrNoRows:
			return nil, err
		}
		all = append(all, kafka.TopicPartition{Topic: &topic, Partition: partition.ID, Offset: next})
		waiting[partition.ID] = true
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("topic %q has no partitions", topic)
	}
	return waiting, consumer.Assign(all)
}

// take applies one event and moves the position past it, both or neither. A busy
// projection takes hundreds of events in one transaction.
func (p *projection) take(ctx context.Context, m *kafka.Message) error {
	tx, err := p.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // after a commit it does nothing
	if err := p.apply(ctx, tx, m); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO positions VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET next = excluded.next`,
		*m.TopicPartition.Topic, m.TopicPartition.Partition, int64(m.TopicPartition.Offset)+1); err != nil {
		return err
	}
	return tx.Commit()
}

// signs are the events that move money, and in which direction.
var signs = map[string]int64{
	"CheckingAccount.DepositReceived": 1, "CheckingAccount.CashWithdrawn": -1,
	"SavingsAccount.DepositReceived": 1, "SavingsAccount.InterestPaid": 1, "SavingsAccount.TransferredToChecking": -1,
}

func (p *projection) apply(ctx context.Context, tx *sql.Tx, m *kafka.Message) error {
	headers := map[string]string{}
	for _, h := range m.Headers {
		headers[h.Key] = string(h.Value)
	}
	sign := signs[headers["ce_type"]]
	if sign == 0 {
		return nil // not about money
	}
	version, err := strconv.ParseInt(headers["ce_sequence"], 10, 64)
	if err != nil {
		return err
	}
	value, err := p.schemas.Decode(ctx, headers["ce_dataschema"], m.Value)
	if err != nil {
		return err
	}
	minor, ok := value.(map[string]any)["amount"].(map[string]any)["minor"].(int64)
	if !ok {
		return fmt.Errorf("%s has no amount in minor units", headers["ce_type"])
	}
	// The aggregate's own events come in the order of their versions: they are in
	// one partition. So what is not newer than the row has been applied before.
	_, err = tx.ExecContext(ctx, `INSERT INTO accounts VALUES (?, ?, ?) ON CONFLICT DO UPDATE
		SET balance = balance + excluded.balance, version = excluded.version WHERE excluded.version > version`,
		headers["ce_subject"], version, sign*minor)
	return err
}

func (p *projection) show(ctx context.Context) error {
	rows, err := p.db.QueryContext(ctx, `SELECT entity, version, balance FROM accounts ORDER BY entity`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var entity string
		var version, balance int64
		if err := rows.Scan(&entity, &version, &balance); err != nil {
			return err
		}
		fmt.Println(entity, version, balance)
	}
	return rows.Err()
}
