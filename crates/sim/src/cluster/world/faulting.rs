//! What is done to machines: crashes, disks that fail, fill up or do not answer, pauses, and cut links.

use std::time::Duration;

use ottla_protocol::ids::NodeId;

use super::World;
use crate::cluster::deeds::{self, Deed};
use crate::cluster::lifecycle::Stage;
use crate::cluster::machine::Process;
use crate::faults::{self, End, Fault};
use crate::node::event::NodeEvent;
use crate::outside::Event;

/// How long a broker may take to stop before it is killed.
const STOP: Duration = Duration::from_secs(8);
/// The longest time in which the disk of a controller does not answer.
const CONTROLLER_STALL: Duration = Duration::from_secs(4);
/// The most bytes that are left on a disk that fills up.
const LEFT: u64 = 96 << 10;

impl World {
    pub(super) fn on_fault(&mut self, id: NodeId, fault: Fault) {
        match fault {
            Fault::Any if !self.is_calm => {
                let pause = deeds::pause(&mut self.outside.random);
                self.outside.after(pause, Event::Fault(id, Fault::Any));
                self.do_something(id);
            }
            Fault::Start => self.start(id),
            Fault::MendLinks => self.outside.links.mend(),
            Fault::EndCrippled => {
                if let Some(Process::Broker(member)) = &self.machines[&id].process
                    && member.has_failed_directory()
                {
                    self.end(id, End::Kill);
                }
            }
            Fault::FreeDisk => {
                let machine = self.machine(id);
                machine.limit = None;
                machine.disk.limit_space(None);
            }
            Fault::Any => {}
        }
    }

    fn do_something(&mut self, id: NodeId) {
        if self.machine(id).process.is_none() {
            return;
        }
        let deed = Deed::choose(&mut self.outside.random);
        self.outside.note("fault", [deed as i64, id.0.into(), 0]);
        match deed {
            Deed::Kill => return self.end(id, End::Kill),
            Deed::PowerCut => return self.end(id, End::PowerCut),
            Deed::Blackout => {
                for id in self.nodes() {
                    self.end(id, End::PowerCut);
                }
                return;
            }
            Deed::Stop => return self.begin_stop(id),
            Deed::EndSoon => {
                let operations = 1 + self.outside.random.below(60);
                self.machine(id).disk.cut_power_after(operations);
            }
            Deed::FillDisk => self.fill(id),
            Deed::Stall => self.stall(id),
            Deed::MoveWallClock => {
                let by = self.outside.random.signed(3_000_000) - 1_500_000;
                self.outside.move_wall_clock(by);
            }
            Deed::CutConnections => self.outside.cut_connections(),
            Deed::Pause => {
                let pause = self.outside.between(100_000, 2_200_000);
                self.machine(id).paused_until = self.outside.time() + pause;
            }
            Deed::CutLinks => self.cut_links(id),
        }
        self.outside.counts.faults += 1;
    }

    fn cut_links(&mut self, id: NodeId) {
        let nodes = self.nodes();
        for (from, to) in deeds::links_to_cut(id, &nodes, &mut self.outside.random) {
            self.outside.links.cut(from, to);
        }
        let delay = self.outside.between(300_000, 8_000_000);
        self.outside
            .after(delay, Event::Fault(id, Fault::MendLinks));
    }

    /// The disk of a broker fills up for a while.
    fn fill(&mut self, id: NodeId) {
        if self.controllers.contains(&id) {
            return;
        }
        let left = self.outside.random.below(LEFT);
        let machine = self.machine(id);
        machine.troubles.full = true;
        machine.limit = faults::leave_space(&machine.disk, left);
        let delay = self.outside.between(1_000_000, 8_000_000);
        self.outside.after(delay, Event::Fault(id, Fault::FreeDisk));
    }

    /// An operator sees that a log directory has failed, and starts the process again soon.
    pub(super) fn notice(&mut self, id: NodeId) {
        self.machine(id).troubles.is_noticed = true;
        let delay = self.outside.between(200_000, 4_000_000);
        self.outside
            .after(delay, Event::Fault(id, Fault::EndCrippled));
    }

    fn stall(&mut self, id: NodeId) {
        let directory = self.outside.random.index(2);
        let until = self.outside.time() + self.outside.between(100_000, 12_000_000);
        let longest = self.outside.time() + CONTROLLER_STALL;
        match &mut self.machine(id).process {
            Some(Process::Broker(member)) => {
                if let Some(broker) = member.broker_mut() {
                    broker.stall(directory, until);
                }
            }
            Some(Process::Controller(controller)) => {
                controller.stall(until.min(longest));
            }
            None => {}
        }
    }

    /// A broker moves its leaderships first; a controller leaves at once.
    fn begin_stop(&mut self, id: NodeId) {
        let stops_by = self.outside.time() + STOP;
        let machine = self.machine(id);
        match &mut machine.process {
            Some(Process::Broker(member)) if member.lifecycle.stage == Stage::Open => {
                member.lifecycle.stage = Stage::Stopping;
                machine.stops_by = Some(stops_by);
            }
            Some(Process::Controller(_)) => self.end(id, End::Stop),
            _ => self.end(id, End::Kill),
        }
    }

    /// A process ends; its machine starts another one soon.
    pub(super) fn end(&mut self, id: NodeId, end: End) {
        let machine = self.machines.get_mut(&id).expect("the machine is there");
        self.outside.serving.remove(&id);
        if let Some(process) = machine.process.take() {
            self.outside.note("ends", [end as i64, id.0.into(), 0]);
            // A process that has not opened its logs leaves them as they were.
            machine.was_stopped &= process.is_unopened();
            if end == End::Stop {
                let stopped = process.stop(&mut self.outside);
                machine.troubles.check_stop(&machine.disk, &stopped);
                machine.was_stopped = stopped.is_ok() && !machine.disk.is_power_off();
            }
            self.outside.counts.ended(end);
            let delay = self.outside.between(20_000, 4_000_000);
            self.outside.after(delay, Event::Fault(id, Fault::Start));
        }
        if end == End::Kill {
            self.tell_controllers(id);
        }
        self.outside.lose(id);
        let machine = self.machines.get_mut(&id).expect("the machine is there");
        machine.stops_by = None;
        machine.paused_until = Duration::ZERO;
        assert_eq!(
            machine.disk.open_handles(),
            0,
            "files are open after the end"
        );
        machine.disk = match end {
            End::PowerCut => machine.disk.power_cut(self.outside.random.next()),
            End::Stop | End::Kill => machine.disk.process_killed(),
        };
    }

    /// The other controllers mostly find soon that the process of a controller has ended.
    fn tell_controllers(&mut self, ended: NodeId) {
        if !self.controllers.contains(&ended) || self.outside.random.one_in(4) {
            return;
        }
        for (id, machine) in &self.machines {
            if let Some(Process::Controller(controller)) = &machine.process
                && self.outside.links.delivers(*id, ended)
                && self.outside.links.delivers(ended, *id)
            {
                let delay = self.outside.between(200, 80_000);
                let event = NodeEvent::ControllerEnded(ended);
                self.outside.later(controller.id, delay, event);
            }
        }
    }
}
