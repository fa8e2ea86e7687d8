package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// member is a group member that polls in the background and counts the partitions it owns.
type member struct {
	client *kgo.Client
	cancel context.CancelFunc
	owned  atomic.Int32
}

func (c *compat) join(ctx context.Context, name string, options ...kgo.Opt) (*member, error) {
	self := &member{}
	count := func(step int32) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, changed map[string][]int32) {
			for _, partitions := range changed {
				self.owned.Add(step * int32(len(partitions)))
			}
		}
	}
	client, err := c.client(append(options,
		kgo.ConsumerGroup(c.topic(name)), kgo.ConsumeTopics(c.topic(name)), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.SessionTimeout(10*time.Second), kgo.HeartbeatInterval(300*time.Millisecond),
		kgo.OnPartitionsAssigned(count(1)), kgo.OnPartitionsRevoked(count(-1)), kgo.OnPartitionsLost(count(-1)))...)
	if err != nil {
		return nil, err
	}
	self.client = client
	polling, cancel := context.WithCancel(ctx)
	self.cancel = cancel
	go func() {
		for polling.Err() == nil {
			client.PollFetches(polling)
		}
	}()
	return self, nil
}

func (m *member) leave() {
	m.cancel()
	m.client.Close()
}

func (c *compat) rebalance(ctx context.Context, name string, options ...kgo.Opt) error {
	if err := c.create(ctx, name, 4, nil); err != nil {
		return err
	}
	first, err := c.join(ctx, name, options...)
	if err != nil {
		return err
	}
	defer first.leave()
	if err := until(ctx, "the first member owning all", func() bool { return first.owned.Load() == 4 }); err != nil {
		return err
	}
	second, err := c.join(ctx, name, options...)
	if err != nil {
		return err
	}
	shared := func() bool { return first.owned.Load() == 2 && second.owned.Load() == 2 }
	err = until(ctx, "sharing the partitions", shared)
	second.leave()
	if err != nil {
		return err
	}
	return until(ctx, "the first member owning all again", func() bool { return first.owned.Load() == 4 })
}

func (c *compat) eager(ctx context.Context) error {
	return c.rebalance(ctx, "eager", kgo.Balancers(kgo.StickyBalancer()))
}

func (c *compat) cooperative(ctx context.Context) error {
	return c.rebalance(ctx, "cooperative", kgo.Balancers(kgo.CooperativeStickyBalancer()))
}

func (c *compat) static(ctx context.Context) error {
	if err := c.create(ctx, "static", 3, nil); err != nil {
		return err
	}
	for range 2 {
		one, err := c.join(ctx, "static", kgo.InstanceID("one"))
		if err != nil {
			return err
		}
		err = until(ctx, "the static member owning all", func() bool { return one.owned.Load() == 3 })
		one.leave()
		if err != nil {
			return err
		}
	}
	left, err := c.admin.LeaveGroup(ctx, kadm.LeaveGroup(c.topic("static")).InstanceIDs("one"))
	if err != nil {
		return err
	}
	return left.Error()
}

func (c *compat) commit(ctx context.Context) error {
	if err := c.create(ctx, "commit", 3, nil); err != nil {
		return err
	}
	if err := c.produce(ctx, c.records("commit", 30)); err != nil {
		return err
	}
	group := []kgo.Opt{kgo.ConsumerGroup(c.topic("commit")), kgo.DisableAutoCommit()}
	found, err := c.fromStart(ctx, "commit", 30, group...)
	if err != nil {
		return err
	}
	if err := expectSame(c.records("commit", 30), found); err != nil {
		return err
	}
	offsets := kadm.Offsets{}
	for partition, at := range []int64{4, 10, 7} {
		offsets.Add(kadm.Offset{Topic: c.topic("commit"), Partition: int32(partition), At: at, LeaderEpoch: -1, Metadata: "noted"})
	}
	if err := c.admin.CommitAllOffsets(ctx, c.topic("commit"), offsets); err != nil {
		return err
	}
	found, err = c.fromStart(ctx, "commit", 9, group...)
	if err != nil {
		return err
	}
	counts := []int{len(of(found, 0)), len(of(found, 1)), len(of(found, 2))}
	return expect(fmt.Sprint(counts) == "[6 0 3]", "resumed with %v", counts)
}

func (c *compat) adminOfGroups(ctx context.Context) error {
	group := c.topic("commit")
	listed, err := c.admin.ListGroups(ctx)
	if err != nil {
		return err
	}
	if _, found := listed[group]; !found {
		return fmt.Errorf("the group is not listed")
	}
	described, err := c.admin.DescribeGroups(ctx, group)
	if err != nil {
		return err
	}
	if described[group].State != "Empty" {
		return fmt.Errorf("state %s", described[group].State)
	}
	offsets, err := c.admin.FetchOffsets(ctx, group)
	if err != nil {
		return err
	}
	if at, _ := offsets.Lookup(c.topic("commit"), 0); at.At != 4 || at.Metadata != "noted" {
		return fmt.Errorf("committed %v", at)
	}
	lag, err := c.admin.Lag(ctx, group)
	if err != nil {
		return err
	}
	if total := lag[group].Lag.Total(); total != 9 {
		return fmt.Errorf("lag %d", total)
	}
	one := kadm.TopicsSet{}
	one.Add(c.topic("commit"), 1)
	if _, err := c.admin.DeleteOffsets(ctx, group, one); err != nil {
		return err
	}
	deleted, err := c.admin.DeleteGroups(ctx, group)
	if err != nil {
		return err
	}
	return deleted.Error()
}
