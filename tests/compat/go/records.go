package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func (c *compat) fromStart(ctx context.Context, name string, count int, options ...kgo.Opt) ([]*kgo.Record, error) {
	client, err := c.client(append(options, kgo.ConsumeTopics(c.topic(name)),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	return c.take(ctx, client, count)
}

func (c *compat) codecs(ctx context.Context) error {
	for codec, compression := range map[string]kgo.CompressionCodec{
		"none":   kgo.NoCompression(),
		"gzip":   kgo.GzipCompression(),
		"snappy": kgo.SnappyCompression(),
		"lz4":    kgo.Lz4Compression(),
		"zstd":   kgo.ZstdCompression(),
	} {
		name := "codec-" + codec
		if err := c.create(ctx, name, 3, nil); err != nil {
			return err
		}
		sent := c.records(name, 30)
		if err := c.produce(ctx, sent, kgo.ProducerBatchCompression(compression), kgo.ProducerLinger(50*time.Millisecond)); err != nil {
			return fmt.Errorf("%s: %w", codec, err)
		}
		found, err := c.fromStart(ctx, name, 30)
		if err != nil {
			return fmt.Errorf("%s: %w", codec, err)
		}
		if err := expectSame(sent, found); err != nil {
			return fmt.Errorf("%s: %w", codec, err)
		}
	}
	return nil
}

func (c *compat) acks(ctx context.Context) error {
	if err := c.create(ctx, "acks", 3, nil); err != nil {
		return err
	}
	for _, acks := range []kgo.Acks{kgo.AllISRAcks(), kgo.LeaderAck(), kgo.NoAck()} {
		if err := c.produce(ctx, c.records("acks", 30), kgo.RequiredAcks(acks), kgo.DisableIdempotentWrite()); err != nil {
			return err
		}
	}
	_, err := c.fromStart(ctx, "acks", 90)
	return err
}

func (c *compat) idempotent(ctx context.Context) error {
	if err := c.create(ctx, "idempotent", 3, nil); err != nil {
		return err
	}
	sent := c.records("idempotent", 300)
	if err := c.produce(ctx, sent, kgo.ProducerBatchMaxBytes(2000)); err != nil {
		return err
	}
	for i, record := range sent {
		if record.Offset != int64(i/3) {
			return fmt.Errorf("record %d has offset %d", i, record.Offset)
		}
	}
	found, err := c.fromStart(ctx, "idempotent", 300, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		return err
	}
	return expectSame(sent, found)
}

func (c *compat) tooLarge(ctx context.Context) error {
	if err := c.create(ctx, "small", 3, map[string]*string{"max.message.bytes": kadm.StringPtr("2000")}); err != nil {
		return err
	}
	large := c.records("small", 1)
	large[0].Value = []byte(strings.Repeat("x", 5000))
	return expectError(c.produce(ctx, large, kgo.ProducerBatchCompression(kgo.NoCompression())), kerr.MessageTooLarge)
}

func (c *compat) automatic(ctx context.Context) error {
	return c.produce(ctx, c.records("automatic", 1), kgo.AllowAutoTopicCreation())
}

func (c *compat) offsets(ctx context.Context) error {
	topic := c.topic("codec-none")
	starts, err := c.admin.ListStartOffsets(ctx, topic)
	if err != nil {
		return err
	}
	ends, err := c.admin.ListEndOffsets(ctx, topic)
	if err != nil {
		return err
	}
	after, err := c.admin.ListOffsetsAfterMilli(ctx, start.Add(14*time.Second).UnixMilli(), topic)
	if err != nil {
		return err
	}
	newest, err := c.admin.ListMaxTimestampOffsets(ctx, topic)
	if err != nil {
		return err
	}
	at := func(listed kadm.ListedOffsets, partition int32) int64 {
		offset, _ := listed.Lookup(topic, partition)
		return offset.Offset
	}
	found := []int64{at(starts, 0), at(ends, 1), at(after, 2), at(newest, 0)}
	if fmt.Sprint(found) != "[0 10 4 9]" {
		return fmt.Errorf("offsets %v", found)
	}
	end, _ := ends.Lookup(topic, 1)
	var epochs kadm.OffsetForLeaderEpochRequest
	epochs.Add(topic, 1, end.LeaderEpoch)
	answers, err := c.admin.OffsetForLeaderEpoch(ctx, epochs)
	if err != nil {
		return err
	}
	answer := answers[topic][1]
	return expect(answer.EndOffset == 10 && answer.Err == nil, "epoch %d ends at %v", end.LeaderEpoch, answer)
}

func (c *compat) deleteRecords(ctx context.Context) error {
	topic := c.topic("codec-gzip")
	var offsets kadm.Offsets = kadm.Offsets{}
	offsets.AddOffset(topic, 0, 6, -1)
	answers, err := c.admin.DeleteRecords(ctx, offsets)
	if err != nil {
		return err
	}
	if answer, _ := answers.Lookup(topic, 0); answer.LowWatermark != 6 {
		return fmt.Errorf("low watermark %v", answer)
	}
	client, err := c.client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}))
	if err != nil {
		return err
	}
	defer client.Close()
	found, err := c.take(ctx, client, 4)
	if err != nil {
		return err
	}
	return expect(found[0].Offset == 6, "the first offset left is %d", found[0].Offset)
}
