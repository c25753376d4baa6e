//! Who takes part in a group, and changes of that: unary calls to leaders, and to the node they are about.

use quorate_proto::convert::members::{change_to_wire, kind_to_wire, since_from_wire};
use quorate_proto::members::{MemberReport, Members};
use quorate_proto::v1;
use quorate_proto::v1::admin_client::AdminClient;
use quorate_types::{Code, EntryId, GroupId, MemberSeat, NodeId, ReplicaId, ReplicaKind};

use crate::client::Client;
use crate::connection::end_of_unary;
use crate::error::Error;
use crate::retry::End;
use crate::status::refusal;

impl Client {
    /// Who takes part in a group, as its leader has it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn members(&self, group: GroupId) -> Result<Members, Error> {
        let inner = self.inner();
        let attempt = |address: String| async move {
            let channel = inner.pool.channel(&address).await.map_err(End::NotSent)?;
            let request = v1::GetMembersRequest { group: group.0 };
            let answer = AdminClient::new(channel).get_members(request).await;
            let answer = answer.map_err(|status| end_of_unary(&address, &status))?;
            Members::from_wire(answer.into_inner()).map_err(|error| End::Refused(error.into()))
        };
        let members = self.call().one_read("members", group, attempt).await?;
        let all = || members.members.iter();
        let leads = |member: &&MemberReport| member.role.votes_after() && member.kind.may_lead();
        let leaders = all().filter(leads).map(|member| member.node);
        let readers = all().filter(|member| member.kind == ReplicaKind::ReadOnly);
        inner.router.note_members(group, leaders, readers.map(|member| member.node));
        if let Some(leader) = members.leader() {
            inner.router.note_leader(group, leader);
        }
        Ok(members)
    }

    /// Asks the leader of a group to begin a change of who takes part, from the membership that came with
    /// the entry `expected`. Returns the entry it began with; a change of voters then goes on by itself,
    /// and [`Client::members`] says when it is over.
    ///
    /// # Errors
    /// See [`Error`]; `MEMBERS_CHANGED` if the members are others, `MEMBER_NOT_READY` if a replica that
    /// should vote could not yet, `NO_QUORUM` if too few voters would be left. If the outcome is unknown,
    /// look at the members before asking again.
    pub async fn change_members(
        &self,
        group: GroupId,
        expected: EntryId,
        seats: &[MemberSeat],
    ) -> Result<EntryId, Error> {
        let inner = self.inner();
        let request = change_to_wire(group, expected, seats);
        let attempt = |address: String| {
            let request = request.clone();
            async move {
                let channel = inner.pool.channel(&address).await.map_err(End::NotSent)?;
                let answer = AdminClient::new(channel).change_members(request).await;
                let answer = answer.map_err(|status| end_of_unary(&address, &status))?;
                since_from_wire(answer.into_inner()).map_err(|error| End::Lost(error.into()))
            }
        };
        self.call().one_shot("change_members", group, attempt).await
    }

    /// Asks a node for an empty replica of a group, of this kind, which a change may take in as a learner. Asked
    /// again it names the same one, until that is a member.
    ///
    /// # Errors
    /// `MEMBER_EXISTS` if the node has a member already, `WRONG_NODE` if the cluster file does not have
    /// the node; otherwise see [`Error`].
    pub async fn create_replica(
        &self,
        node: NodeId,
        group: GroupId,
        kind: ReplicaKind,
    ) -> Result<ReplicaId, Error> {
        let address = self.address_of(node)?;
        let asking = async {
            let channel = self.inner().pool.channel(&address).await?;
            let request =
                v1::CreateReplicaRequest { group: group.0, kind: kind_to_wire(kind).into() };
            let answer = AdminClient::new(channel).create_replica(request).await;
            match answer.map_err(|status| refusal(&address, &status))?.into_inner().replica {
                0 => {
                    let message = format!("{address} made a replica without a number");
                    Err(quorate_types::Error::new(Code::Internal, message))
                }
                replica => Ok(ReplicaId(replica)),
            }
        };
        self.one_answer(&address, asking).await
    }

    /// Says that the replica of a group on this node is to lead whenever it can, or no longer. Lasts
    /// until the node starts again.
    ///
    /// # Errors
    /// `WRONG_NODE` if the node holds no replica of the group; otherwise see [`Error`].
    pub async fn pin_leader(
        &self,
        node: NodeId,
        group: GroupId,
        pinned: bool,
    ) -> Result<(), Error> {
        let address = self.address_of(node)?;
        let asking = async {
            let channel = self.inner().pool.channel(&address).await?;
            let request = v1::PinLeaderRequest { group: group.0, pinned };
            let answer = AdminClient::new(channel).pin_leader(request).await;
            answer.map(|_| ()).map_err(|status| refusal(&address, &status))
        };
        self.one_answer(&address, asking).await
    }

    /// Makes a node hand over all it leads, and lead nothing until it may again or is started again.
    /// Returns how many groups it still leads; asked again, it says so again.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn drain_node(&self, node: NodeId, drained: bool) -> Result<u32, Error> {
        let address = self.address_of(node)?;
        let asking = async {
            let channel = self.inner().pool.channel(&address).await?;
            let answer =
                AdminClient::new(channel).drain_node(v1::DrainNodeRequest { drained }).await;
            Ok(answer.map_err(|status| refusal(&address, &status))?.into_inner().groups_led)
        };
        self.one_answer(&address, asking).await
    }

    pub(crate) fn address_of(&self, node: NodeId) -> Result<String, Error> {
        self.inner().router.address(node).ok_or_else(|| {
            let message = format!("the cluster file has no node {node}");
            Error::local(quorate_types::Error::new(Code::WrongNode, message))
        })
    }
}
