//! Delaying and cutting the links of a cluster that was started to be played with.

use quorate_proto::convert::link::{links_from_wire, links_to_wire};
use quorate_proto::v1;
use quorate_proto::v1::admin_client::AdminClient;
use quorate_types::Link;

use crate::client::{Client, Inner};
use crate::error::Error;
use crate::status::refusal;

impl Client {
    /// What is done to the links of the node at an address.
    ///
    /// # Errors
    /// `FAULTS_NOT_ALLOWED` unless it was started with `--allow-faults`, `UNREACHABLE` if it cannot be
    /// reached.
    pub async fn links(&self, address: &str) -> Result<Vec<Link>, Error> {
        self.one_answer(address, ask_links(self.inner(), address)).await
    }

    /// Replaces what is done to the links of the node at an address: what reaches it from its peers, and
    /// what it exchanges with clients that say where they are ([`Builder::near`](crate::Builder::near)).
    ///
    /// # Errors
    /// `FAULTS_NOT_ALLOWED` unless it was started with `--allow-faults`, `INVALID_REQUEST` if a link names
    /// no place of the cluster file, `UNREACHABLE` if the node cannot be reached.
    pub async fn set_links(&self, address: &str, links: &[Link]) -> Result<(), Error> {
        self.one_answer(address, tell_links(self.inner(), address, links)).await
    }
}

async fn ask_links(inner: &Inner, address: &str) -> Result<Vec<Link>, quorate_types::Error> {
    let channel = inner.pool.channel(address).await?;
    let answer = AdminClient::new(channel).get_links(v1::GetLinksRequest {}).await;
    let answer = answer.map_err(|status| refusal(address, &status))?;
    Ok(links_from_wire(answer.into_inner().links)?)
}

async fn tell_links(
    inner: &Inner,
    address: &str,
    links: &[Link],
) -> Result<(), quorate_types::Error> {
    let channel = inner.pool.channel(address).await?;
    let request = v1::SetLinksRequest { links: links_to_wire(links) };
    let answer = AdminClient::new(channel).set_links(request).await;
    answer.map_err(|status| refusal(address, &status))?;
    Ok(())
}
