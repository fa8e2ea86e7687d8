package main

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

func (c *compat) config(ctx context.Context, topic string) (map[string]string, error) {
	described, err := c.admin.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for _, config := range described[0].Configs {
		found[config.Key] = config.MaybeValue()
	}
	return found, described[0].Err
}

func (c *compat) adminOfTopics(ctx context.Context) error {
	topic := c.topic("admin")
	if err := c.create(ctx, "admin", 3, map[string]*string{"retention.ms": kadm.StringPtr("3600000")}); err != nil {
		return err
	}
	if err := expectError(c.create(ctx, "admin", 3, nil), kerr.TopicAlreadyExists); err != nil {
		return err
	}
	if err := expectError(c.create(ctx, "wide", 3, map[string]*string{"no.such.key": kadm.StringPtr("1")}), kerr.InvalidConfig); err != nil {
		return err
	}
	if _, err := c.admin.UpdatePartitions(ctx, 5, topic); err != nil {
		return err
	}
	altered, err := c.admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{
		{Op: kadm.SetConfig, Name: "max.message.bytes", Value: kadm.StringPtr("2000")},
		{Op: kadm.DeleteConfig, Name: "retention.ms"},
		{Op: kadm.AppendConfig, Name: "cleanup.policy", Value: kadm.StringPtr("compact")},
	}, topic)
	if err != nil {
		return err
	}
	if altered[0].Err != nil {
		return altered[0].Err
	}
	if err := until(ctx, "the altered config", func() bool {
		found, err := c.config(ctx, topic)
		return err == nil && found["max.message.bytes"] == "2000" && found["retention.ms"] == "604800000" &&
			found["cleanup.policy"] == "delete,compact"
	}); err != nil {
		return err
	}
	return until(ctx, "five partitions", func() bool {
		listed, err := c.admin.ListTopics(ctx, topic)
		return err == nil && len(listed[topic].Partitions) == 5
	})
}

func (c *compat) cluster(ctx context.Context) error {
	brokers, err := c.admin.BrokerMetadata(ctx)
	if err != nil {
		return err
	}
	if len(brokers.Brokers) != 1 || brokers.Cluster == "" {
		return fmt.Errorf("described as %v", brokers)
	}
	versions, err := c.admin.ApiVersions(ctx)
	if err != nil {
		return err
	}
	for _, broker := range versions.Sorted() {
		if broker.Err != nil {
			return broker.Err
		}
	}
	disks, err := c.admin.DescribeAllLogDirs(ctx, nil)
	if err != nil {
		return err
	}
	if _, found := disks[brokers.Brokers[0].NodeID].Lookup(kadmDir(disks), c.topic("codec-none"), 0); !found {
		return fmt.Errorf("the partition lies in no log directory: %v", disks)
	}
	settings, err := c.admin.DescribeBrokerConfigs(ctx, brokers.Brokers[0].NodeID)
	if err != nil {
		return err
	}
	return expect(len(settings[0].Configs) > 50, "only %d broker configs", len(settings[0].Configs))
}

// kadmDir is the only log directory that was described.
func kadmDir(disks kadm.DescribedAllLogDirs) (name string) {
	disks.Each(func(directory kadm.DescribedLogDir) { name = directory.Dir })
	return name
}

func (c *compat) placement(ctx context.Context) error {
	topic := c.topic("codec-none")
	moving, err := c.admin.ListPartitionReassignments(ctx, nil)
	if err != nil {
		return err
	}
	if len(moving) != 0 {
		return fmt.Errorf("reassigning %v", moving)
	}
	var set kadm.TopicsSet = kadm.TopicsSet{}
	set.Add(topic, 0)
	elected, err := c.admin.ElectLeaders(ctx, kadm.ElectPreferredReplica, set)
	if err != nil {
		return err
	}
	answer := elected[topic][0]
	return expectError(answer.Err, kerr.ElectionNotNeeded)
}

func (c *compat) deleteTopics(ctx context.Context) error {
	topic := c.topic("admin")
	deleted, err := c.admin.DeleteTopics(ctx, topic)
	if err != nil {
		return err
	}
	if err := deleted.Error(); err != nil {
		return err
	}
	again, err := c.admin.DeleteTopics(ctx, topic)
	if err != nil {
		return err
	}
	return expectError(again.Error(), kerr.UnknownTopicOrPartition)
}
