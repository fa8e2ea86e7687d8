// The load of tests/cluster/java/Load.java with franz-go: a producer, a member of a group, and a reader without a group.
//
// usage: cluster BOOTSTRAP TOPIC PARTITIONS LEDGER RATE SEED
package main

import (
	"bufio"
	"context"
	"fmt"
	"math/rand"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	name = "franz"
	keys = 12
)

type load struct {
	bootstrap, topic string
	partitions, rate int
	chance           *rand.Rand
	lock             sync.Mutex
	ledger           *os.File
}

func main() {
	arguments := os.Args[1:]
	ledger, err := os.Create(arguments[3])
	exitOn(err)
	seed, err := strconv.ParseInt(arguments[5], 10, 64)
	exitOn(err)
	l := &load{
		bootstrap:  arguments[0],
		topic:      arguments[1],
		partitions: number(arguments[2]),
		rate:       number(arguments[4]),
		chance:     rand.New(rand.NewSource(seed)),
		ledger:     ledger,
	}
	producing, stop := context.WithCancel(context.Background())
	reading, end := context.WithCancel(context.Background())
	var producer, readers sync.WaitGroup
	producer.Go(func() { l.produce(producing) })
	readers.Go(func() { l.member(reading) })
	readers.Go(func() { l.readAll(reading) })
	commands := bufio.NewScanner(os.Stdin)
	await(commands, "stop")
	stop()
	producer.Wait()
	fmt.Println("stopped")
	await(commands, "end")
	end()
	readers.Wait()
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func number(text string) int {
	value, err := strconv.Atoi(text)
	exitOn(err)
	return value
}

// await returns at this line, or when the driver has ended.
func await(commands *bufio.Scanner, wanted string) {
	for commands.Scan() {
		if commands.Text() == wanted {
			return
		}
	}
}

// write writes a line, which is in the file when this returns.
func (l *load) write(kind string, at int64, fields ...any) {
	line := fmt.Sprint(kind, " ", at)
	for _, field := range fields {
		line += " " + fmt.Sprint(field)
	}
	l.lock.Lock()
	defer l.lock.Unlock()
	_, err := l.ledger.WriteString(line + "\n")
	exitOn(err)
}

func (l *load) failed(client string, err error) {
	l.write("failed", now(), client, strings.Join(strings.Fields(err.Error()), " "))
}

func now() int64 { return time.Now().UnixMilli() }

func (l *load) client(options ...kgo.Opt) *kgo.Client {
	options = append(options, kgo.SeedBrokers(strings.Split(l.bootstrap, ",")...))
	client, err := kgo.NewClient(options...)
	exitOn(err)
	return client
}

func (l *load) produce(ctx context.Context) {
	client := l.client(
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(2*time.Millisecond),
	)
	var sequences [keys]int
	for ctx.Err() == nil {
		key := l.chance.Intn(keys)
		sequences[key]++
		record := fmt.Sprintf("%s-1 k%d %d", name, key, sequences[key])
		partition := int32(key % l.partitions)
		sent := &kgo.Record{
			Topic:     l.topic,
			Partition: partition,
			Key:       fmt.Appendf(nil, "k%d", key),
			Value:     []byte(record + " " + strings.Repeat("x", l.chance.Intn(300))),
		}
		client.Produce(context.Background(), sent, func(place *kgo.Record, err error) {
			if err != nil {
				l.failed(name+"-producer", err)
				return
			}
			l.write("acked", now(), partition, place.Offset, record)
		})
		time.Sleep(time.Second / time.Duration(l.rate))
	}
	ending, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := client.Flush(ending); err != nil {
		l.failed(name+"-producer", err)
	}
	client.Close()
}

// read writes what a poll got, and calls position for each record.
func (l *load) read(fetches kgo.Fetches, reader string, position func(partition int32, next int64)) {
	fetches.EachError(func(_ string, _ int32, err error) {
		if err != context.Canceled {
			l.failed(reader, err)
		}
	})
	fetches.EachRecord(func(record *kgo.Record) {
		value := string(record.Value)
		written := value[:strings.LastIndexByte(value, ' ')]
		l.write("read", now(), reader, record.Partition, record.Offset, written)
		position(record.Partition, record.Offset+1)
	})
}

func (l *load) member(ctx context.Context) {
	admin := kadm.NewClient(l.client())
	client := l.client(
		kgo.ConsumerGroup(name),
		kgo.ConsumeTopics(l.topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(func(ctx context.Context, _ *kgo.Client, places map[string][]int32) {
			l.assigned(ctx, admin, places[l.topic])
		}),
	)
	for ctx.Err() == nil {
		read := map[int32]kgo.EpochOffset{}
		l.read(client.PollFetches(ctx), name+"/0", func(partition int32, next int64) {
			read[partition] = kgo.EpochOffset{Epoch: -1, Offset: next}
		})
		if len(read) > 0 {
			l.commit(client, read)
		}
		client.AllowRebalance()
	}
	client.Close()
}

// assigned asks for the committed offsets of new partitions, where the client begins to read.
func (l *load) assigned(ctx context.Context, admin *kadm.Client, partitions []int32) {
	for ctx.Err() == nil {
		asked := now()
		found, err := admin.FetchOffsets(ctx, name)
		if err != nil || found.Error() != nil {
			time.Sleep(50 * time.Millisecond)
			continue
		}
		for _, partition := range partitions {
			offset := int64(-1)
			if committed, ok := found.Lookup(l.topic, partition); ok {
				offset = committed.At
			}
			l.write("committed", asked, name, partition, offset)
			l.write("assigned", now(), name+"/0", partition, max(offset, 0))
		}
		return
	}
}

func (l *load) commit(client *kgo.Client, read map[int32]kgo.EpochOffset) {
	offsets := map[string]map[int32]kgo.EpochOffset{l.topic: read}
	done := func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, answer *kmsg.OffsetCommitResponse, err error) {
		if err != nil {
			l.failed(name+"-commit", err)
			return
		}
		for _, topic := range answer.Topics {
			for _, partition := range topic.Partitions {
				if err := kerr.ErrorForCode(partition.ErrorCode); err != nil {
					// What was read stays uncommitted; a later commit has it.
					l.failed(name+"-commit", err)
					continue
				}
				l.write("commit", now(), name, partition.Partition, read[partition.Partition].Offset)
			}
		}
	}
	client.CommitOffsetsSync(context.Background(), offsets, done)
}

func (l *load) readAll(ctx context.Context) {
	reader := name + "-reader"
	positions := map[int32]kgo.Offset{}
	for partition := range int32(l.partitions) {
		positions[partition] = kgo.NewOffset().At(0)
		l.write("assigned", now(), reader, partition, 0)
	}
	client := l.client(
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{l.topic: positions}),
		// An offset that is out of range is an error, and is not reset.
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
	)
	for ctx.Err() == nil {
		l.read(client.PollFetches(ctx), reader, func(int32, int64) {})
	}
	client.Close()
}
