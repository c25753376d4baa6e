//! Serves the cluster file, versioned.

use std::sync::Arc;

use quorate_proto::convert::error::status_from_error;
use quorate_proto::convert::status::TopologyText;
use quorate_proto::v1;
use tonic::{Request, Response, Status};

use crate::access::Caller;
use crate::context::NodeContext;

pub(crate) struct TopologyService {
    context: Arc<NodeContext>,
}

impl TopologyService {
    pub(crate) fn new(context: Arc<NodeContext>) -> TopologyService {
        TopologyService { context }
    }
}

#[tonic::async_trait]
impl v1::topology_server::Topology for TopologyService {
    async fn get_topology(
        &self,
        request: Request<v1::GetTopologyRequest>,
    ) -> Result<Response<v1::GetTopologyResponse>, Status> {
        let admitted = self.context.admit(&Caller::of(&request), "topology");
        admitted.map_err(|error| status_from_error(&error))?;
        let topology = &self.context.topology;
        let known = request.into_inner().known_version;
        let text = TopologyText {
            cluster: topology.cluster_id(),
            version: topology.version(),
            toml: (known != topology.version()).then(|| topology.text().to_owned()),
        };
        Ok(Response::new(text.into_wire()))
    }
}
