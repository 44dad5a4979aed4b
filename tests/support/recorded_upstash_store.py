"""What `llama-index-vector-stores-upstash` 0.6.0 wrote: its nodes, and the bodies that it sent.

Recorded once, from the real store, which needs an environment of its own because it holds back the SDK:

    python -m venv store && store/bin/pip install llama-index-vector-stores-upstash==0.6.0
    store/bin/python tests/support/recorded_upstash_store.py

That is llama-index-core 0.14.25 and upstash-vector 0.4.0. The second command starts a server of this machine that
answers every request with success and prints, line by line, path and body as they came; these are the lines of
`RECORDED`. The tests only read.
"""

# ruff: noqa: E501 - the bodies are as they came

from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import import_module
from threading import Thread
from typing import Any

from llama_index.core.schema import (
    BaseNode,
    Document,
    ImageNode,
    IndexNode,
    MediaResource,
    Node,
    NodeRelationship,
    ObjectType,
    RelatedNodeInfo,
    TextNode,
)


def written() -> list[BaseNode]:
    """The nodes that were handed to the store, the nearest to [1, 0] first."""
    nested: dict[str, Any] = {
        "tags": ["ä", {"deep": [1, 2.5, None]}],
        "nothing": None,
        "draft": False,
        "final": True,
        "empty": {},
    }
    family = {
        NodeRelationship.SOURCE: RelatedNodeInfo(node_id="report", node_type=ObjectType.DOCUMENT, metadata={"p": 1}),
        NodeRelationship.PREVIOUS: RelatedNodeInfo(node_id="before"),
        NodeRelationship.NEXT: RelatedNodeInfo(node_id="after", hash="abc"),
        NodeRelationship.PARENT: RelatedNodeInfo(node_id="parent"),
        NodeRelationship.CHILD: [RelatedNodeInfo(node_id="child-1"), RelatedNodeInfo(node_id="child-2")],
    }
    return [
        TextNode(
            id_="full",
            text='Snow — 雪 ❄ — said "cold" \\ and\nfell.',
            metadata={"title": "Über's", **nested},
            relationships=family,
            excluded_embed_metadata_keys=["tags"],
            excluded_llm_metadata_keys=["draft"],
            metadata_template="{key} = {value}",
            metadata_separator=" | ",
            text_template="{metadata_str}\n--\n{content}",
            start_char_idx=7,
            end_char_idx=40,
        ),
        TextNode(
            id_="keys", text="Ice.", metadata={"doc_id": "mine", "document_id": 5, "ref_doc_id": None, "text": "t"}
        ),
        IndexNode(id_="index", text="All about rain.", index_id="rain", extra_info={"kind": "pointer"}),
        ImageNode(id_="image", text="A cloud.", image_url="http://127.0.0.1/cloud.png", image_mimetype="image/png"),
        Node(id_="media", text_resource=MediaResource(text="Of wind."), extra_info={"kind": "media"}),
        Document(id_="document", text="A whole document.", metadata={"kind": "document"}),
        TextNode(id_="blank", text=""),
    ]


RECORDED = [
    line.split(" ", 1)
    for line in r"""
/upsert [{"id": "full", "vector": [1.0, 0.0], "metadata": {"title": "\u00dcber's", "tags": ["\u00e4", {"deep": [1, 2.5, null]}], "nothing": null, "draft": false, "final": true, "empty": {}, "_node_content": "{\"id_\": \"full\", \"embedding\": null, \"metadata\": {\"title\": \"\u00dcber's\", \"tags\": [\"\u00e4\", {\"deep\": [1, 2.5, null]}], \"nothing\": null, \"draft\": false, \"final\": true, \"empty\": {}}, \"excluded_embed_metadata_keys\": [\"tags\"], \"excluded_llm_metadata_keys\": [\"draft\"], \"relationships\": {\"1\": {\"node_id\": \"report\", \"node_type\": \"4\", \"metadata\": {\"p\": 1}, \"hash\": null, \"class_name\": \"RelatedNodeInfo\"}, \"2\": {\"node_id\": \"before\", \"node_type\": null, \"metadata\": {}, \"hash\": null, \"class_name\": \"RelatedNodeInfo\"}, \"3\": {\"node_id\": \"after\", \"node_type\": null, \"metadata\": {}, \"hash\": \"abc\", \"class_name\": \"RelatedNodeInfo\"}, \"4\": {\"node_id\": \"parent\", \"node_type\": null, \"metadata\": {}, \"hash\": null, \"class_name\": \"RelatedNodeInfo\"}, \"5\": [{\"node_id\": \"child-1\", \"node_type\": null, \"metadata\": {}, \"hash\": null, \"class_name\": \"RelatedNodeInfo\"}, {\"node_id\": \"child-2\", \"node_type\": null, \"metadata\": {}, \"hash\": null, \"class_name\": \"RelatedNodeInfo\"}]}, \"metadata_template\": \"{key} = {value}\", \"metadata_separator\": \" | \", \"text\": \"Snow \u2014 \u96ea \u2744 \u2014 said \\\"cold\\\" \\\\ and\\nfell.\", \"mimetype\": \"text/plain\", \"start_char_idx\": 7, \"end_char_idx\": 40, \"text_template\": \"{metadata_str}\\n--\\n{content}\", \"class_name\": \"TextNode\"}", "_node_type": "TextNode", "document_id": "report", "doc_id": "report", "ref_doc_id": "report"}}, {"id": "keys", "vector": [1.0, 0.125], "metadata": {"doc_id": "None", "document_id": "None", "ref_doc_id": "None", "text": "t", "_node_content": "{\"id_\": \"keys\", \"embedding\": null, \"metadata\": {\"doc_id\": \"mine\", \"document_id\": 5, \"ref_doc_id\": null, \"text\": \"t\"}, \"excluded_embed_metadata_keys\": [], \"excluded_llm_metadata_keys\": [], \"relationships\": {}, \"metadata_template\": \"{key}: {value}\", \"metadata_separator\": \"\\n\", \"text\": \"Ice.\", \"mimetype\": \"text/plain\", \"start_char_idx\": null, \"end_char_idx\": null, \"text_template\": \"{metadata_str}\\n\\n{content}\", \"class_name\": \"TextNode\"}", "_node_type": "TextNode"}}, {"id": "index", "vector": [1.0, 0.25], "metadata": {"kind": "pointer", "_node_content": "{\"id_\": \"index\", \"embedding\": null, \"metadata\": {\"kind\": \"pointer\"}, \"excluded_embed_metadata_keys\": [], \"excluded_llm_metadata_keys\": [], \"relationships\": {}, \"metadata_template\": \"{key}: {value}\", \"metadata_separator\": \"\\n\", \"text\": \"All about rain.\", \"mimetype\": \"text/plain\", \"start_char_idx\": null, \"end_char_idx\": null, \"text_template\": \"{metadata_str}\\n\\n{content}\", \"index_id\": \"rain\", \"obj\": null, \"class_name\": \"IndexNode\"}", "_node_type": "IndexNode", "document_id": "None", "doc_id": "None", "ref_doc_id": "None"}}, {"id": "image", "vector": [1.0, 0.375], "metadata": {"_node_content": "{\"id_\": \"image\", \"embedding\": null, \"metadata\": {}, \"excluded_embed_metadata_keys\": [], \"excluded_llm_metadata_keys\": [], \"relationships\": {}, \"metadata_template\": \"{key}: {value}\", \"metadata_separator\": \"\\n\", \"text\": \"A cloud.\", \"mimetype\": \"text/plain\", \"start_char_idx\": null, \"end_char_idx\": null, \"text_template\": \"{metadata_str}\\n\\n{content}\", \"image\": null, \"image_path\": null, \"image_url\": \"http://127.0.0.1/cloud.png\", \"image_mimetype\": \"image/png\", \"text_embedding\": null, \"class_name\": \"ImageNode\"}", "_node_type": "ImageNode", "document_id": "None", "doc_id": "None", "ref_doc_id": "None"}}, {"id": "media", "vector": [1.0, 0.5], "metadata": {"kind": "media", "_node_content": "{\"id_\": \"media\", \"embedding\": null, \"metadata\": {\"kind\": \"media\"}, \"excluded_embed_metadata_keys\": [], \"excluded_llm_metadata_keys\": [], \"relationships\": {}, \"metadata_template\": \"{key}: {value}\", \"metadata_separator\": \"\\n\", \"text_resource\": {\"embeddings\": null, \"text\": \"Of wind.\", \"path\": null, \"url\": null, \"mimetype\": null}, \"image_resource\": null, \"audio_resource\": null, \"video_resource\": null, \"text_template\": \"{metadata_str}\\n\\n{content}\", \"class_name\": \"Node\"}", "_node_type": "Node", "document_id": "None", "doc_id": "None", "ref_doc_id": "None"}}, {"id": "document", "vector": [1.0, 0.625], "metadata": {"kind": "document", "_node_content": "{\"id_\": \"document\", \"embedding\": null, \"metadata\": {\"kind\": \"document\"}, \"excluded_embed_metadata_keys\": [], \"excluded_llm_metadata_keys\": [], \"relationships\": {}, \"metadata_template\": \"{key}: {value}\", \"metadata_separator\": \"\\n\", \"text_resource\": {\"embeddings\": null, \"text\": \"A whole document.\", \"path\": null, \"url\": null, \"mimetype\": null}, \"image_resource\": null, \"audio_resource\": null, \"video_resource\": null, \"text_template\": \"{metadata_str}\\n\\n{content}\", \"class_name\": \"Document\", \"text\": \"A whole document.\"}", "_node_type": "Document", "document_id": "None", "doc_id": "None", "ref_doc_id": "None"}}, {"id": "blank", "vector": [1.0, 0.75], "metadata": {"_node_content": "{\"id_\": \"blank\", \"embedding\": null, \"metadata\": {}, \"excluded_embed_metadata_keys\": [], \"excluded_llm_metadata_keys\": [], \"relationships\": {}, \"metadata_template\": \"{key}: {value}\", \"metadata_separator\": \"\\n\", \"text\": \"\", \"mimetype\": \"text/plain\", \"start_char_idx\": null, \"end_char_idx\": null, \"text_template\": \"{metadata_str}\\n\\n{content}\", \"class_name\": \"TextNode\"}", "_node_type": "TextNode", "document_id": "None", "doc_id": "None", "ref_doc_id": "None"}}]
/upsert/batches [{"id": "keys", "vector": [1.0, 0.125], "metadata": {"doc_id": "None", "document_id": "None", "ref_doc_id": "None", "text": "t", "_node_content": "{\"id_\": \"keys\", \"embedding\": null, \"metadata\": {\"doc_id\": \"mine\", \"document_id\": 5, \"ref_doc_id\": null, \"text\": \"t\"}, \"excluded_embed_metadata_keys\": [], \"excluded_llm_metadata_keys\": [], \"relationships\": {}, \"metadata_template\": \"{key}: {value}\", \"metadata_separator\": \"\\n\", \"text\": \"Ice.\", \"mimetype\": \"text/plain\", \"start_char_idx\": null, \"end_char_idx\": null, \"text_template\": \"{metadata_str}\\n\\n{content}\", \"class_name\": \"TextNode\"}", "_node_type": "TextNode"}}]
/upsert/batches [{"id": "keys", "vector": [1.0, 0.125], "metadata": {"doc_id": "None", "document_id": "None", "ref_doc_id": "None", "text": "t", "_node_content": "{\"id_\": \"keys\", \"embedding\": null, \"metadata\": {\"doc_id\": \"mine\", \"document_id\": 5, \"ref_doc_id\": null, \"text\": \"t\"}, \"excluded_embed_metadata_keys\": [], \"excluded_llm_metadata_keys\": [], \"relationships\": {}, \"metadata_template\": \"{key}: {value}\", \"metadata_separator\": \"\\n\", \"text\": \"Ice.\", \"mimetype\": \"text/plain\", \"start_char_idx\": null, \"end_char_idx\": null, \"text_template\": \"{metadata_str}\\n\\n{content}\", \"class_name\": \"TextNode\"}", "_node_type": "TextNode"}}, {"id": "index", "vector": [1.0, 0.25], "metadata": {"kind": "pointer", "_node_content": "{\"id_\": \"index\", \"embedding\": null, \"metadata\": {\"kind\": \"pointer\"}, \"excluded_embed_metadata_keys\": [], \"excluded_llm_metadata_keys\": [], \"relationships\": {}, \"metadata_template\": \"{key}: {value}\", \"metadata_separator\": \"\\n\", \"text\": \"All about rain.\", \"mimetype\": \"text/plain\", \"start_char_idx\": null, \"end_char_idx\": null, \"text_template\": \"{metadata_str}\\n\\n{content}\", \"index_id\": \"rain\", \"obj\": null, \"class_name\": \"IndexNode\"}", "_node_type": "IndexNode", "document_id": "None", "doc_id": "None", "ref_doc_id": "None"}}]
""".strip().splitlines()
]
"""The path and the body of each request, in order."""


class _Noting(BaseHTTPRequestHandler):
    """Answers every request with success, and prints it."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        print(self.path, body.decode())  # noqa: T201
        reply = b'{"result": "Success"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *args: Any) -> None:
        pass


def record() -> None:
    """Print what the store sends."""
    store: Any = import_module("llama_index.vector_stores.upstash").UpstashVectorStore

    server = HTTPServer(("127.0.0.1", 0), _Noting)
    Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    nodes = written()
    for place, node in enumerate(nodes):
        node.embedding = [1.0, place / 8]
    store(url, "token").add(nodes)
    store(url, "token", namespace="batches", batch_size=1).add(nodes[1:3])
    server.shutdown()


if __name__ == "__main__":
    record()
