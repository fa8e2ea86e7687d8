// franz-go against a broker: prints a line for each check as claims.py does.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const deadline = 40 * time.Second

// An hour ago, so that neither retention nor the limit on early records applies.
var start = time.Now().Add(-time.Hour).Truncate(time.Second)

type compat struct {
	bootstrap, prefix string
	admin             *kadm.Client
}

type check struct {
	name string
	run  func(context.Context) error
}

func main() {
	c := &compat{bootstrap: os.Args[1], prefix: os.Args[2]}
	client, err := c.client()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	c.admin = kadm.NewClient(client)
	for _, check := range []check{
		{"admin_creates_alters_and_describes_a_topic", c.adminOfTopics},
		{"every_codec_comes_back_as_it_was_sent", c.codecs},
		{"every_acks_is_answered", c.acks},
		{"idempotent_producer_keeps_order", c.idempotent},
		{"producer_is_refused_a_record_too_large", c.tooLarge},
		{"producing_creates_the_topic", c.automatic},
		{"group_resumes_from_its_commit", c.commit},
		{"eager_group_rebalances", c.eager},
		{"cooperative_group_rebalances", c.cooperative},
		{"static_member_returns_to_its_partitions", c.static},
		{"admin_lists_describes_and_deletes_groups", c.adminOfGroups},
		{"offsets_are_found_by_time_and_epoch", c.offsets},
		{"records_are_deleted_up_to_an_offset", c.deleteRecords},
		{"cluster_and_disks_are_described", c.cluster},
		{"reassignments_and_elections_are_answered", c.placement},
		{"admin_deletes_topics", c.deleteTopics},
	} {
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		if err := check.run(ctx); err != nil {
			fmt.Printf("not ok %s: %s\n", check.name, strings.Join(strings.Fields(err.Error()), " "))
		} else {
			fmt.Printf("ok %s\n", check.name)
		}
		cancel()
	}
	fmt.Println("done")
}

func (c *compat) client(options ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(c.bootstrap),
		kgo.ClientID("franz-go"),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.MetadataMinAge(100 * time.Millisecond),
	}, options...)...)
}

func (c *compat) topic(name string) string { return c.prefix + "-" + name }

func (c *compat) create(ctx context.Context, name string, partitions int32, configs map[string]*string) error {
	_, err := c.admin.CreateTopic(ctx, partitions, 1, configs, c.topic(name))
	return err
}

// records are sent by all producing checks: keys, a null key, a null value, headers, own timestamps.
func (c *compat) records(name string, count int) []*kgo.Record {
	var made []*kgo.Record
	for i := range count {
		record := &kgo.Record{
			Topic:     c.topic(name),
			Partition: int32(i % 3),
			Timestamp: start.Add(time.Duration(i) * time.Second),
			Headers: []kgo.RecordHeader{
				{Key: "index", Value: fmt.Append(nil, i)},
				{Key: "same", Value: []byte("1")},
				{Key: "same", Value: []byte("2")},
			},
		}
		if i%10 != 9 {
			record.Key = fmt.Appendf(nil, "key-%d", i%7)
		}
		if i%10 != 8 {
			record.Value = fmt.Appendf(nil, "value-%d-%s", i, strings.Repeat("x", 200))
		}
		made = append(made, record)
	}
	return made
}

func (c *compat) produce(ctx context.Context, records []*kgo.Record, options ...kgo.Opt) error {
	client, err := c.client(options...)
	if err != nil {
		return err
	}
	defer client.Close()
	return client.ProduceSync(ctx, records...).FirstErr()
}

func (c *compat) take(ctx context.Context, client *kgo.Client, count int) ([]*kgo.Record, error) {
	var found []*kgo.Record
	for len(found) < count {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			return nil, fmt.Errorf("%d of %d records: %w", len(found), count, err)
		}
		for _, failure := range fetches.Errors() {
			return nil, failure.Err
		}
		found = append(found, fetches.Records()...)
	}
	if len(found) != count {
		return nil, fmt.Errorf("%d records, not %d", len(found), count)
	}
	return found, nil
}

func of(records []*kgo.Record, partition int32) (some []*kgo.Record) {
	for _, record := range records {
		if record.Partition == partition {
			some = append(some, record)
		}
	}
	return some
}

func sameBytes(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }

func same(a, b *kgo.Record) bool {
	if !sameBytes(a.Key, b.Key) || !sameBytes(a.Value, b.Value) || !a.Timestamp.Equal(b.Timestamp) {
		return false
	}
	return fmt.Sprint(a.Headers) == fmt.Sprint(b.Headers)
}

func expectSame(sent, found []*kgo.Record) error {
	for partition := range int32(3) {
		want, got := of(sent, partition), of(found, partition)
		if len(want) != len(got) {
			return fmt.Errorf("partition %d: %d records, not %d", partition, len(got), len(want))
		}
		for i := range want {
			if !same(want[i], got[i]) {
				return fmt.Errorf("partition %d: %v came back for %v", partition, got[i], want[i])
			}
		}
	}
	return nil
}

func expect(holds bool, format string, arguments ...any) error {
	if holds {
		return nil
	}
	return fmt.Errorf(format, arguments...)
}

func expectError(err error, wanted error) error {
	return expect(errors.Is(err, wanted), "%v, not %v", err, wanted)
}

func until(ctx context.Context, what string, holds func() bool) error {
	for !holds() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s did not happen", what)
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}
